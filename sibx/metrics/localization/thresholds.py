"""Localization over all thresholds: how well does the heatmap tell the object from the background?"""

from torch import Tensor

from sibx.metrics.localization._overlap import Levels, Overlap, overlap, steps
from sibx.metrics.spec import MetricSpec


def best_iou(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Largest intersection over union of the object and {a >= t} over all thresholds t.

    Range [0, 1], higher is better; a flat map scores the object's area share, its only threshold. The threshold is
    chosen with the mask in hand, so this is an upper bound of what a user would get.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: sibx.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> best_iou(heatmaps, masks)
        tensor([0.6667], dtype=torch.float64)
    """
    return Overlap(heatmaps, masks, undefined).by_levels(_largest_iou)


def _largest_iou(levels: Levels) -> Tensor:
    hits, alarms = levels
    return (hits / (hits[..., -1:] + alarms)).amax(-1)


BEST_IOU = MetricSpec(
    name="best_iou",
    title="Best IoU",
    formula="largest intersection over union of s and {a >= t} over thresholds t",
    score=lambda e: e.once(overlap).by_levels(_largest_iou),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="IoU at the best threshold",
)


def average_precision(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Area under the precision-recall curve of pixels against the object: ``sum_t (R_t - R_t') P_t``.

    R_t is the recall and P_t the precision of {a >= t}; t runs over the distinct values of the heatmap from the largest
    down, t' is the one before. Range (0, 1], higher is better; a flat map scores the object's area share, which is
    chance.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: the step-wise sum of information retrieval, without interpolation, Manning et al. 2008, chapter 8.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> average_precision(heatmaps, masks)
        tensor([0.8333], dtype=torch.float64)
    """
    return Overlap(heatmaps, masks, undefined).by_levels(mean_precision)


def mean_precision(levels: Levels) -> Tensor:
    """Return the sum of the precisions (...), each times the step of the recall that leads to it."""
    hits, alarms = levels
    precision = hits / (hits + alarms).clamp(min=1)
    return (steps(hits) * precision).sum(-1) / hits[..., -1]


AVERAGE_PRECISION = MetricSpec(
    name="average_precision",
    title="Average precision",
    formula="area under the precision-recall curve of pixels against s, exact with ties",
    score=lambda e: e.once(overlap).by_levels(mean_precision),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Manning 2008, chapter 8",
)


def roc_auc(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Probability that a random object pixel is above a random background pixel, ties counting one half.

    Range [0, 1], higher is better, chance 0.5.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: area under the ROC curve, Fawcett 2006.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> roc_auc(heatmaps, masks)
        tensor([0.7500], dtype=torch.float64)
    """
    return Overlap(heatmaps, masks, undefined).by_levels(_area_under_roc)


def _area_under_roc(levels: Levels) -> Tensor:
    hits, alarms = levels
    return (steps(alarms) * (hits - steps(hits) / 2)).sum(-1) / (hits[..., -1] * alarms[..., -1])


ROC_AUC = MetricSpec(
    name="roc_auc",
    title="ROC-AUC",
    formula="probability that an object pixel is above a background pixel, ties 1/2",
    score=lambda e: e.once(overlap).by_levels(_area_under_roc),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="0.5",
    needs_masks=True,
    reference="Fawcett 2006",
)
