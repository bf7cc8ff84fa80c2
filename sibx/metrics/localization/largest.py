"""Localization by the largest pixels: do the object's pixels come first?"""

from torch import Tensor

from sibx._checks import check_range
from sibx.metrics.localization.overlap import prepare, where_defined
from sibx.metrics.localization.sorting import sort
from sibx.metrics.spec import MetricSpec

TOP, TOP_SIDE = 1000, 224  # pixels in an image of 224 x 224, in proportion to the area otherwise


def relevance_rank(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Share of the |s| largest pixels that lie on the object, |s| = number of object pixels.

    Pixels that tie for the last places count by their expected share under a random order. Range [0, 1], higher is
    better; chance is the object's area share; 1 when every object pixel is above every other one.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool, pixels left out.

    Returns:
        (B,) float64, NaN where undefined.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: relevance rank accuracy, Arras et al., arXiv 2003.07258.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    return where_defined(_share_of_first(a, s, defined, s.sum(1)), a, s, defined)


RELEVANCE_RANK = MetricSpec(
    name="relevance_rank",
    title="Relevance rank",
    formula="share of the |s| largest pixels of a in s; ties by their expected share",
    score=lambda e: relevance_rank(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Arras 2022, arXiv 2003.07258",
)


def iou(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Intersection over union of the object and as many pixels as it has, those with the largest values.

    With r the relevance rank, ``r / (2 - r)``: range [0, 1], higher is better, and no threshold to choose. Chance for
    area share q: q / (2 - q). Arguments, undefined cases and errors as ``relevance_rank``.
    """
    rank = relevance_rank(heatmaps, masks, undefined=undefined)
    return rank / (2 - rank)


IOU = MetricSpec(
    name="iou",
    title="IoU",
    formula="intersection over union of s and the |s| largest pixels of a",
    score=lambda e: iou(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="q / (2 - q), q the area share of the object",
    needs_masks=True,
    reference="relevance rank r as r / (2 - r)",
)


def topk_intersection(
    heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None, k: int | None = None
) -> Tensor:
    """Share of the min(k, |s|) largest pixels that lie on the object.

    Unlike with a fixed k, a perfect map reaches 1 on a small object too. Ties, range, chance, undefined cases and
    errors as ``relevance_rank``.

    Args:
        heatmaps: as for ``relevance_rank``.
        masks: as for ``relevance_rank``.
        k: number of pixels, at least 1; None = 1000 at 224 x 224, in proportion to the area.
        undefined: as for ``relevance_rank``.

    Source: Theiner et al., WACV 2022 (fixed k).
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    count = max(1, round(TOP * a.shape[1] / TOP_SIDE**2)) if k is None else k
    check_range("k", count, 1)
    return where_defined(_share_of_first(a, s, defined, s.sum(1).clamp(max=count)), a, s, defined)


TOPK_INTERSECTION = MetricSpec(
    name="topk_intersection",
    title="Top-k intersection",
    formula="share of the min(k, |s|) largest pixels of a in s, k = 1000 at 224 x 224 px, in proportion to the area",
    score=lambda e: topk_intersection(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Theiner 2022, WACV, with k = min(k, |s|)",
)


def _share_of_first(a: Tensor, s: Tensor, defined: Tensor, count: Tensor) -> Tensor:
    """Expected share of object pixels among each row's ``count`` (B,) largest pixels."""
    size = count.clamp(min=1).unsqueeze(1)
    values, on_object = sort(a, s, defined)
    last = values.gather(1, size - 1)
    above, tied = values > last, values == last
    places = (size.squeeze(1) - above.sum(1)).double()
    hits = (above & on_object).sum(1) + places * (tied & on_object).sum(1) / tied.sum(1)
    return hits / size.squeeze(1)
