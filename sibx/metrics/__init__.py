"""Scores of explanations, one per image: the METRICS table and every score as a plain function.

To add a metric: one function in its family's file, and one line in METRICS.
"""

from collections.abc import Callable

from torch import Tensor

from sibx.metrics.base import Evidence, MetricSpec
from sibx.metrics.complexity import effective_complexity, entropy, sparseness
from sibx.metrics.localization import (
    attribution_localization,
    background_suppression,
    focus,
    foreground_focus,
    foreground_lift,
    pointing_game,
)
from sibx.metrics.perturbation import Curves, deletion, insertion
from sibx.metrics.ranking import average_precision, best_iou, iou, relevance_rank, roc_auc, topk_intersection

__all__ = [
    "METRICS",
    "Curves",
    "Evidence",
    "MetricSpec",
    "attribution_localization",
    "average_precision",
    "background_suppression",
    "best_iou",
    "deletion",
    "effective_complexity",
    "entropy",
    "focus",
    "foreground_focus",
    "foreground_lift",
    "insertion",
    "iou",
    "pointing_game",
    "relevance_rank",
    "roc_auc",
    "sparseness",
    "topk_intersection",
]


def _follow(name: str, score: Callable[..., Curves]) -> Callable[[Evidence], Tensor]:
    """Wrap deletion or insertion: return the AUC, leave the curve in the evidence."""

    def run(e: Evidence) -> Tensor:
        curves = score(e.model, e.images, e.heatmaps, e.targets, batch_size=e.batch_size, seed=e.seed)
        e.curves[name] = curves.fractions, curves.probabilities
        return curves.auc

    return run


METRICS: dict[str, MetricSpec] = {
    "foreground_focus": MetricSpec(
        name="foreground_focus",
        title="Foreground focus",
        score=lambda e: foreground_focus(e.heatmaps, e.masks, e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="Wang 2020, arXiv 1910.01279; Arras 2022, arXiv 2003.07258",
    ),
    "foreground_lift": MetricSpec(
        name="foreground_lift",
        title="Foreground lift",
        score=lambda e: foreground_lift(e.heatmaps, e.masks, e.undefined),
        higher_is_better=True,
        bounds=(0.0, float("inf")),
        chance="1",
        needs_masks=True,
        needs_model=False,
        reference="foreground focus / area share; Kohlbrenner 2020, arXiv 1910.09840",
    ),
    "background_suppression": MetricSpec(
        name="background_suppression",
        title="Background suppression",
        score=lambda e: background_suppression(e.heatmaps, e.masks, e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="0.5",
        needs_masks=True,
        needs_model=False,
        reference="sibx",
    ),
    "pointing_game": MetricSpec(
        name="pointing_game",
        title="Pointing game",
        score=lambda e: pointing_game(e.heatmaps, e.masks, undefined=e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object grown by the tolerance",
        needs_masks=True,
        needs_model=False,
        reference="Zhang 2018, arXiv 1608.00507",
    ),
    "relevance_rank": MetricSpec(
        name="relevance_rank",
        title="Relevance rank",
        score=lambda e: relevance_rank(e.heatmaps, e.masks, e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="Arras 2022, arXiv 2003.07258",
    ),
    "iou": MetricSpec(
        name="iou",
        title="IoU",
        score=lambda e: iou(e.heatmaps, e.masks, e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="q / (2 - q), q the area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="relevance rank r as r / (2 - r)",
    ),
    "topk_intersection": MetricSpec(
        name="topk_intersection",
        title="Top-k intersection",
        score=lambda e: topk_intersection(e.heatmaps, e.masks, undefined=e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="Theiner 2022, WACV, with k = min(k, |s|)",
    ),
    "best_iou": MetricSpec(
        name="best_iou",
        title="Best IoU",
        score=lambda e: best_iou(e.heatmaps, e.masks, undefined=e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="IoU at the best threshold",
    ),
    "average_precision": MetricSpec(
        name="average_precision",
        title="Average precision",
        score=lambda e: average_precision(e.heatmaps, e.masks, undefined=e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        needs_model=False,
        reference="Manning 2008, chapter 8",
    ),
    "roc_auc": MetricSpec(
        name="roc_auc",
        title="ROC-AUC",
        score=lambda e: roc_auc(e.heatmaps, e.masks, undefined=e.undefined),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="0.5",
        needs_masks=True,
        needs_model=False,
        reference="Fawcett 2006",
    ),
    "deletion": MetricSpec(
        name="deletion",
        title="Deletion AUC",
        score=_follow("deletion", deletion),
        higher_is_better=False,
        bounds=(0.0, 1.0),
        chance="that of the random map",
        needs_masks=False,
        needs_model=True,
        reference="Petsiuk 2018, arXiv 1806.07421",
    ),
    "insertion": MetricSpec(
        name="insertion",
        title="Insertion AUC",
        score=_follow("insertion", insertion),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="that of the random map",
        needs_masks=False,
        needs_model=True,
        reference="Petsiuk 2018, arXiv 1806.07421",
    ),
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
}
