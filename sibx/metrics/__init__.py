"""Scores of explanations, one per image: the METRICS table and every score as a plain function.

To add a metric: one function in its family's file, and one line in METRICS.
"""

from sibx.metrics.adaptive import AdaptiveCurves, adaptive_deletion, adaptive_insertion
from sibx.metrics.base import Evidence, MetricSpec
from sibx.metrics.complexity import effective_complexity, entropy, histogram_entropy, sparseness
from sibx.metrics.confidence import (
    Confidence,
    adcc,
    average_drop,
    average_gain,
    coherency,
    confidence,
    increase_in_confidence,
    masked_probability,
)
from sibx.metrics.curve_metrics import CURVE_METRICS
from sibx.metrics.curve_scores import aopc, insertion_minus_deletion, normalized_deletion, normalized_insertion, srg
from sibx.metrics.faithfulness_metrics import FAITHFULNESS_METRICS
from sibx.metrics.infidelity import infidelity
from sibx.metrics.irof import irof, superpixels
from sibx.metrics.localization import (
    attribution_localization,
    background_suppression,
    focus,
    foreground_focus,
    foreground_lift,
    pointing_game,
)
from sibx.metrics.localization_metrics import LOCALIZATION_METRICS
from sibx.metrics.max_sensitivity import max_sensitivity
from sibx.metrics.perturbation import Curves, Perturbations, deletion, insertion, lerf
from sibx.metrics.random_logit import random_logit
from sibx.metrics.randomization import (
    Randomization,
    complexity_rise,
    randomization,
    smooth_randomization,
    smoothed,
)
from sibx.metrics.ranking import average_precision, best_iou, iou, relevance_rank, roc_auc, topk_intersection
from sibx.metrics.road import Removal, removal, road, road_lerf, road_morf
from sibx.metrics.sanity_metrics import SANITY_METRICS
from sibx.metrics.sensitivity_n import SensitivityN, sensitivity_n
from sibx.metrics.similarity import spearman, ssim

__all__ = [
    "METRICS",
    "AdaptiveCurves",
    "Confidence",
    "Curves",
    "Evidence",
    "MetricSpec",
    "Perturbations",
    "Randomization",
    "Removal",
    "SensitivityN",
    "adaptive_deletion",
    "adaptive_insertion",
    "adcc",
    "aopc",
    "attribution_localization",
    "average_drop",
    "average_gain",
    "average_precision",
    "background_suppression",
    "best_iou",
    "coherency",
    "complexity_rise",
    "confidence",
    "deletion",
    "effective_complexity",
    "entropy",
    "focus",
    "foreground_focus",
    "foreground_lift",
    "histogram_entropy",
    "increase_in_confidence",
    "infidelity",
    "insertion",
    "insertion_minus_deletion",
    "iou",
    "irof",
    "lerf",
    "masked_probability",
    "max_sensitivity",
    "normalized_deletion",
    "normalized_insertion",
    "pointing_game",
    "random_logit",
    "randomization",
    "relevance_rank",
    "removal",
    "road",
    "road_lerf",
    "road_morf",
    "roc_auc",
    "sensitivity_n",
    "smooth_randomization",
    "smoothed",
    "sparseness",
    "spearman",
    "srg",
    "ssim",
    "superpixels",
    "topk_intersection",
]

METRICS: dict[str, MetricSpec] = {
    **LOCALIZATION_METRICS,
    **CURVE_METRICS,
    **FAITHFULNESS_METRICS,
    "sparseness": MetricSpec(
        name="sparseness",
        title="Sparseness",
        score=lambda e: sparseness(e.heatmaps),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="0 for a flat map",
        needs_masks=False,
        needs_model=False,
        reference="Chalasani 2020, arXiv 1810.06583",
    ),
    "entropy": MetricSpec(
        name="entropy",
        title="Entropy",
        score=lambda e: entropy(e.heatmaps),
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        chance="ln(H W) for a flat map",
        needs_masks=False,
        needs_model=False,
        reference="Bhatt 2020, arXiv 2005.00631",
    ),
    "effective_complexity": MetricSpec(
        name="effective_complexity",
        title="Effective complexity",
        score=lambda e: effective_complexity(e.heatmaps),
        higher_is_better=False,
        bounds=(0.0, 1.0),
        chance="1 for a flat map",
        needs_masks=False,
        needs_model=False,
        reference="Nguyen 2020, arXiv 2007.07584",
    ),
    **SANITY_METRICS,
}
