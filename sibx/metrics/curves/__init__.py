"""Perturbation curves: does the probability follow when pixels go, or come, in the order of the heatmap?

All of them come from one stream of perturbed images. The curves that a metric looks at stay in what was explained:
``deletion`` (which is MoRF), ``insertion``, ``lerf``.
"""

from sibx.metrics.curves import auc, derived, information
from sibx.metrics.spec import MetricSpec

CURVES: dict[str, MetricSpec] = {
    s.name: s
    for s in (
        auc.DELETION,
        auc.INSERTION,
        derived.NORMALIZED_DELETION,
        derived.NORMALIZED_INSERTION,
        derived.INSERTION_MINUS_DELETION,
        auc.LERF,
        derived.SRG,
        derived.AOPC,
        information.SIC,
        information.AIC,
    )
}
