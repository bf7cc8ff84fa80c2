"""The heatmap as a segmentation, by the protocol of ImageNet-Segmentation: cut at its own mean, no threshold to choose.

There the counts of all images are pooled; here every image has its score, as everywhere in sibx, so that scores have
intervals and pairs. Tables of papers are pooled, and a little different. The third number of the protocol has no
threshold: it ranks the answers to "object?" and "background?" together; ``average_precision`` is that of the object
alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sibx._precise import precise
from sibx.metrics.localization._overlap import Overlap, overlap
from sibx.metrics.localization.thresholds import mean_precision
from sibx.metrics.spec import MetricSpec

ROUNDING = 1e-9  # share of the mean by which a pixel has to be above it: no pixel of a flat map is


class Cut(NamedTuple):
    """How many pixels are above the mean and not, on the object and beside it, (B,) float64 each."""

    hits: Tensor
    misses: Tensor
    alarms: Tensor
    rejections: Tensor


def cut_at_mean(o: Overlap) -> Cut:
    """Cut every heatmap at the mean of its defined pixels."""
    inside, outside = o.masses
    objects, others = precise(o.object_pixels), precise(o.background_pixels)
    mean = (inside + outside) / (objects + others).clamp(min=1)
    above = precise(o.values) > (mean * (1 + ROUNDING)).unsqueeze(1)  # undefined pixels are 0, never above
    hits, all_above = precise((above & o.objects.bool()).sum(1)), precise(above.sum(1))
    return Cut(hits, objects - hits, all_above - hits, others - all_above + hits)


def iou_at_mean(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Mean of two intersections over unions: the pixels above the map's mean with the object, the rest with the rest.

    Range [0, 1], higher is better. Half of the pixels at random give (q / (1 + q) + (1 - q) / (2 - q)) / 2 for the
    object's area share q, a flat map, no pixel of which is above its mean, (1 - q) / 2.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: the mIoU of Chefer et al., arXiv 2012.09838, per image.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, False, False]]]])
        >>> iou_at_mean(heatmaps, masks)  # 1 / 2 and 2 / 3
        tensor([0.5833], dtype=torch.float64)
    """
    return _iou_at_mean(Overlap(heatmaps, masks, undefined))


def _iou_at_mean(o: Overlap) -> Tensor:
    c = cut_at_mean(o)
    wrong = c.misses + c.alarms
    return o.where_defined((c.hits / (c.hits + wrong) + c.rejections / (c.rejections + wrong)) / 2, o.largest)


IOU_AT_MEAN = MetricSpec(
    name="iou_at_mean",
    title="IoU at the mean",
    formula="(IoU of s with a > mean(a) + IoU of the others with the rest) / 2",
    score=lambda e: _iou_at_mean(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="(q / (1 + q) + (1 - q) / (2 - q)) / 2 for half of the pixels, q the area share of the object",
    needs_masks=True,
    reference="Chefer 2020, arXiv 2012.09838, per image",
)


def pixel_accuracy(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Share of the pixels that lie on the right side of the map's mean: above it on the object, not so beside it.

    Range [0, 1], higher is better. Half of the pixels at random give 1/2, a flat map 1 - q for the object's area share
    q, which of small objects is hard to beat.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: Chefer et al., arXiv 2012.09838, per image.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, False, False]]]])
        >>> pixel_accuracy(heatmaps, masks)
        tensor([0.7500], dtype=torch.float64)
    """
    return _pixel_accuracy(Overlap(heatmaps, masks, undefined))


def _pixel_accuracy(o: Overlap) -> Tensor:
    c = cut_at_mean(o)
    right = c.hits + c.rejections
    return o.where_defined(right / (right + c.misses + c.alarms), o.largest)


PIXEL_ACCURACY = MetricSpec(
    name="pixel_accuracy",
    title="Pixel accuracy at the mean",
    formula="share of the pixels where a > mean(a) agrees with s",
    score=lambda e: _pixel_accuracy(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="1/2 for half of the pixels, 1 - q for a flat map",
    needs_masks=True,
    reference="Chefer 2020, arXiv 2012.09838, per image",
)


def average_precision_both(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Average precision of two answers of every pixel together: that it is the object, and that it is not.

    With the map scaled to [0, 1] by its own minimum and maximum, a pixel is the object with a and background with
    1 - a. One of the two is right. These twice as many answers are ranked together, ``average_precision`` of the right
    ones. Range (0, 1], higher is better; a flat map gives 1/2, whatever the size of the object, a random one about
    that.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: the mAP of Chefer et al., arXiv 2012.09838, whose mean over images it is.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, False, False]]]])
        >>> average_precision_both(heatmaps, masks)
        tensor([0.8542], dtype=torch.float64)
    """
    return _both(Overlap(heatmaps, masks, undefined))


def _both(o: Overlap) -> Tensor:
    values, objects = precise(o.values), o.objects.bool()
    left_out = torch.zeros_like(objects) if o.defined is None else ~o.defined
    low, high = o.extremes
    # Not divided by high - low: the order is that of a and 1 - a, and no rounding parts what ties.
    answers, right, without = (
        torch.cat(parts, 1)[:, None, None]  # (B, 1, 1, 2 P)
        for parts in ((values - low, high - values), (objects, ~objects), (left_out, left_out))
    )
    found = Overlap(answers.masked_fill(without, 0), right, without).by_levels(mean_precision)
    return o.where_defined(found.masked_fill((high == low).squeeze(1), 0.5), o.largest)


AVERAGE_PRECISION_BOTH = MetricSpec(
    name="average_precision_both",
    title="Average precision of both answers",
    formula="average precision of a for s and of 1 - a for the rest, ranked together, a scaled to [0, 1]",
    score=lambda e: _both(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="1/2",
    needs_masks=True,
    reference="Chefer 2020, arXiv 2012.09838",
)
