"""Faithfulness: what the model makes of masked, imputed and perturbed images, and of images explained again."""

from sibx.metrics.faithfulness import (
    _adcc,
    _completeness,
    _confidence,
    _infidelity,
    _irof,
    _max_sensitivity,
    _relative_stability,
    _road,
    _sensitivity_n,
    _single_deletion,
)
from sibx.metrics.spec import MetricSpec

FAITHFULNESS: dict[str, MetricSpec] = {
    s.name: s
    for s in (
        _confidence.AVERAGE_DROP,
        _confidence.INCREASE_IN_CONFIDENCE,
        _confidence.AVERAGE_GAIN,
        _adcc.ADCC,
        _road.ROAD,
        _road.ROAD_MORF,
        _road.ROAD_LERF,
        _irof.IROF,
        _single_deletion.SINGLE_DELETION,
        _sensitivity_n.SENSITIVITY_N,
        _infidelity.INFIDELITY,
        _max_sensitivity.MAX_SENSITIVITY,
        _relative_stability.RELATIVE_INPUT_STABILITY,
        _relative_stability.RELATIVE_OUTPUT_STABILITY,
        _relative_stability.RELATIVE_REPRESENTATION_STABILITY,
        _completeness.COMPLETENESS,
    )
}
