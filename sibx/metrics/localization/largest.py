"""Localization by the largest pixels: do the object's pixels come first?"""

from functools import partial

from torch import Tensor

from sibx._checks import check_integer
from sibx.metrics.localization._overlap import Levels, Overlap, overlap, steps
from sibx.metrics.spec import MetricSpec

TOP, TOP_SIDE = 1000, 224  # pixels in an image of 224 x 224, in proportion to the area otherwise


def relevance_rank(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Share of the |s| largest pixels that lie on the object, |s| = number of object pixels.

    Pixels that tie for the last places count by their expected share under a random order. Range [0, 1], higher is
    better; chance is the object's area share; 1 when every object pixel is above every other one.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: relevance rank accuracy, Arras et al., arXiv 2003.07258.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> relevance_rank(heatmaps, masks)
        tensor([0.5000], dtype=torch.float64)
    """
    return _rank(Overlap(heatmaps, masks, undefined))


def _rank(o: Overlap) -> Tensor:
    return o.by_levels(_share_of_first)


RELEVANCE_RANK = MetricSpec(
    name="relevance_rank",
    title="Relevance rank",
    formula="share of the |s| largest pixels of a in s; ties by their expected share",
    score=lambda e: _rank(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Arras 2022, arXiv 2003.07258",
)


def iou(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Intersection over union of the object and as many pixels as it has, those with the largest values.

    With r the relevance rank, ``r / (2 - r)``, so there is no threshold to choose. Range [0, 1], higher is better;
    chance is q / (2 - q) for the object's area share q.

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
        >>> iou(heatmaps, masks)
        tensor([0.3333], dtype=torch.float64)
    """
    return _iou(Overlap(heatmaps, masks, undefined))


def _iou(o: Overlap) -> Tensor:
    rank = _rank(o)
    return rank / (2 - rank)


IOU = MetricSpec(
    name="iou",
    title="IoU",
    formula="intersection over union of s and the |s| largest pixels of a",
    score=lambda e: _iou(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="q / (2 - q), q the area share of the object",
    needs_masks=True,
    reference="relevance rank r as r / (2 - r)",
)


def topk_intersection(
    heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None, k: int | None = None
) -> Tensor:
    """Share of the min(k, |s|) largest pixels that lie on the object, |s| = number of object pixels.

    Unlike with a fixed k, a perfect map reaches 1 on a small object too. Pixels that tie for the last places count by
    their expected share under a random order. Range [0, 1], higher is better; chance is the object's area share.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.
        k: number of pixels, at least 1; None = 1000 at 224 x 224 px, in proportion to the area otherwise.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, negative values, or k below 1.

    Source: Theiner et al., WACV 2022 (fixed k).

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> topk_intersection(heatmaps, masks, k=1)
        tensor([1.], dtype=torch.float64)
    """
    return _topk(Overlap(heatmaps, masks, undefined), k)


def _topk(o: Overlap, k: int | None = None) -> Tensor:
    count = max(1, round(TOP * o.size.numel() / TOP_SIDE**2)) if k is None else k
    check_integer("k", count, 1)
    return o.by_levels(partial(_share_of_first, most=count))


TOPK_INTERSECTION = MetricSpec(
    name="topk_intersection",
    title="Top-k intersection",
    formula="share of the min(k, |s|) largest pixels of a in s, k = 1000 at 224 x 224 px, in proportion to the area",
    score=lambda e: _topk(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Theiner 2022, WACV, with k = min(k, |s|)",
)


def _share_of_first(levels: Levels, most: float = float("inf")) -> Tensor:
    """Expected share of object pixels among the largest pixels, as many as the object has but at most ``most``."""
    hits, pixels = levels.hits, levels.hits + levels.alarms
    places, sizes = hits[..., -1:].clamp(max=most), steps(pixels)
    # Of a level all is taken, or nothing, or in the last one as many as there are places left.
    taken = ((places - (pixels - sizes)) / sizes.clamp(min=1)).clamp(0, 1)
    return (steps(hits) * taken).sum(-1) / places.squeeze(-1)
