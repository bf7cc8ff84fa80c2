"""Scores of explanations, one per image: the METRICS table and every score as a plain function.

To add a metric: its function and, beside it, its spec in a file of its family, and its line in the family's table. Its
name below makes the function public.
"""

from sibx._checks import require
from sibx._plugins import Table
from sibx.images._superpixels import superpixels
from sibx.metrics.complexity import COMPLEXITY, effective_complexity, entropy, histogram_entropy, sparseness
from sibx.metrics.curves import CURVES
from sibx.metrics.curves._perturbations import Curves, Perturbations
from sibx.metrics.curves.adaptive import AdaptiveCurves, adaptive_deletion, adaptive_insertion
from sibx.metrics.curves.auc import deletion, insertion, lerf
from sibx.metrics.curves.derived import aopc, insertion_minus_deletion, normalized_deletion, normalized_insertion, srg
from sibx.metrics.curves.information import InformationCurves, aic, sic
from sibx.metrics.explained import Explained
from sibx.metrics.faithfulness import FAITHFULNESS
from sibx.metrics.faithfulness._adcc import adcc, coherency
from sibx.metrics.faithfulness._completeness import completeness
from sibx.metrics.faithfulness._confidence import (
    Confidence,
    average_drop,
    average_gain,
    confidence,
    increase_in_confidence,
    masked_probability,
)
from sibx.metrics.faithfulness._infidelity import infidelity
from sibx.metrics.faithfulness._irof import irof
from sibx.metrics.faithfulness._max_sensitivity import max_sensitivity
from sibx.metrics.faithfulness._relative_stability import (
    RelativeStability,
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
    relative_stability,
)
from sibx.metrics.faithfulness._road import Removal, removal, road, road_lerf, road_morf
from sibx.metrics.faithfulness._sensitivity_n import SensitivityN, sensitivity_n
from sibx.metrics.faithfulness._single_deletion import single_deletion
from sibx.metrics.localization import LOCALIZATION
from sibx.metrics.localization._pointing_game import pointing_game
from sibx.metrics.localization.cuts import chosen_iou, iou_at, iou_over_thresholds
from sibx.metrics.localization.largest import iou, relevance_rank, topk_intersection
from sibx.metrics.localization.mass import (
    attribution_localization,
    background_suppression,
    foreground_focus,
    foreground_lift,
)
from sibx.metrics.localization.segmentation import average_precision_both, iou_at_mean, pixel_accuracy
from sibx.metrics.localization.thresholds import average_precision, best_iou, roc_auc
from sibx.metrics.own_metrics import AnyMetric, read_metric
from sibx.metrics.sanity import SANITY
from sibx.metrics.sanity._complexity_rise import complexity_rise
from sibx.metrics.sanity._random_logit import random_logit
from sibx.metrics.sanity._randomization import Randomization, randomization
from sibx.metrics.sanity.smooth import smooth_randomization, smoothed
from sibx.metrics.similarity import spearman, ssim
from sibx.metrics.spec import MetricSpec

__all__ = [
    "METRICS",
    "AdaptiveCurves",
    "AnyMetric",
    "Confidence",
    "Curves",
    "Explained",
    "InformationCurves",
    "MetricSpec",
    "Perturbations",
    "Randomization",
    "RelativeStability",
    "Removal",
    "SensitivityN",
    "adaptive_deletion",
    "adaptive_insertion",
    "adcc",
    "aic",
    "aopc",
    "attribution_localization",
    "average_drop",
    "average_gain",
    "average_precision",
    "average_precision_both",
    "background_suppression",
    "best_iou",
    "chosen_iou",
    "coherency",
    "completeness",
    "complexity_rise",
    "confidence",
    "deletion",
    "effective_complexity",
    "entropy",
    "foreground_focus",
    "foreground_lift",
    "histogram_entropy",
    "increase_in_confidence",
    "infidelity",
    "insertion",
    "insertion_minus_deletion",
    "iou",
    "iou_at",
    "iou_at_mean",
    "iou_over_thresholds",
    "irof",
    "lerf",
    "masked_probability",
    "max_sensitivity",
    "normalized_deletion",
    "normalized_insertion",
    "pixel_accuracy",
    "pointing_game",
    "random_logit",
    "randomization",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "relative_stability",
    "relevance_rank",
    "removal",
    "road",
    "road_lerf",
    "road_morf",
    "roc_auc",
    "sensitivity_n",
    "sic",
    "single_deletion",
    "smooth_randomization",
    "smoothed",
    "sparseness",
    "spearman",
    "srg",
    "ssim",
    "superpixels",
    "to_metric",
    "topk_intersection",
]


def to_metric(metric: AnyMetric, name: str | None = None, *, argument: str = "metric") -> MetricSpec:
    """Return a metric of any form as a MetricSpec, which says what it is; ``dataclasses.replace`` changes it.

    Args:
        metric: a key of METRICS; a MetricSpec; a function that returns (B,) scores, one per image, and whose arguments
            have names of what it asks for, in any order: ``heatmaps`` (B, 1, H, W), ``masks``, ``undefined``,
            ``images``, ``targets``, ``model``, or another field of Explained; or ``module:name`` of one of these.
        name: name of the metric in results; None = its own.
        argument: what errors call it.

    Returns:
        MetricSpec; of a function without a direction (``higher_is_better`` is None).

    Raises:
        ValueError: an unknown key, or what is none of these.

    Example:
        >>> def inside(heatmaps, masks):
        ...     return (heatmaps * masks).sum((1, 2, 3)) / heatmaps.sum((1, 2, 3))
        >>> to_metric(inside).needs_masks
        True
    """
    return read_metric(METRICS, metric, name, argument)


def _read(found: object, name: str) -> MetricSpec:
    require(not isinstance(found, str), name, "be a MetricSpec or a function", found)
    return read_metric({}, found, name, name)


METRICS: Table[MetricSpec] = Table(
    "sibx.metrics", {**LOCALIZATION, **CURVES, **FAITHFULNESS, **COMPLEXITY, **SANITY}.values(), _read
)
