"""Scores of explanations, one per image: the METRICS table and every score as a plain function.

To add a metric: its function and, beside it, its spec in a file of its family, and its line in the family's table. Its
name below makes the function public.
"""

from sibx.metrics.complexity import COMPLEXITY, effective_complexity, entropy, histogram_entropy, sparseness
from sibx.metrics.curves import CURVES
from sibx.metrics.curves._perturbations import Curves, Perturbations
from sibx.metrics.curves.adaptive import AdaptiveCurves, adaptive_deletion, adaptive_insertion
from sibx.metrics.curves.auc import deletion, insertion, lerf
from sibx.metrics.curves.derived import aopc, insertion_minus_deletion, normalized_deletion, normalized_insertion, srg
from sibx.metrics.explained import Explained
from sibx.metrics.faithfulness import FAITHFULNESS
from sibx.metrics.faithfulness._adcc import adcc, coherency
from sibx.metrics.faithfulness._confidence import (
    Confidence,
    average_drop,
    average_gain,
    confidence,
    increase_in_confidence,
    masked_probability,
)
from sibx.metrics.faithfulness._infidelity import infidelity
from sibx.metrics.faithfulness._irof import irof, superpixels
from sibx.metrics.faithfulness._max_sensitivity import max_sensitivity
from sibx.metrics.faithfulness._road import Removal, removal, road, road_lerf, road_morf
from sibx.metrics.faithfulness._sensitivity_n import SensitivityN, sensitivity_n
from sibx.metrics.localization import LOCALIZATION
from sibx.metrics.localization._pointing_game import pointing_game
from sibx.metrics.localization.largest import iou, relevance_rank, topk_intersection
from sibx.metrics.localization.mass import (
    attribution_localization,
    background_suppression,
    foreground_focus,
    foreground_lift,
)
from sibx.metrics.localization.thresholds import average_precision, best_iou, roc_auc
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
    "Confidence",
    "Curves",
    "Explained",
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

METRICS: dict[str, MetricSpec] = {**LOCALIZATION, **CURVES, **FAITHFULNESS, **COMPLEXITY, **SANITY}
