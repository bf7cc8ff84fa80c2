"""The heatmap cut at a threshold that is the same for all images, as somebody who wants masks would cut it.

``best_iou`` looks at the mask of every image for its threshold, which nobody can who has no mask. Here one threshold is
chosen on validation images and held on others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sibx._checks import check_range, require
from sibx._precise import precise
from sibx.metrics.explained import Explained
from sibx.metrics.localization._overlap import Overlap, overlap
from sibx.metrics.spec import MetricSpec

CUTS = 100  # thresholds 1/100, 2/100, ..., 1 of a map scaled to [0, 1]; at 0 every pixel is above
OVER_THRESHOLDS = "iou_over_thresholds"


def iou_at(heatmaps: Tensor, masks: Tensor, *, threshold: float, undefined: Tensor | None = None) -> Tensor:
    """Intersection over union of the object and {a >= t}, the map scaled to [0, 1] by its own minimum and maximum.

    Range [0, 1], higher is better; a flat map, all of which is above, scores the object's area share.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        threshold: t, above 0, at most 1; ``sibx.evaluation.choose_thresholds`` chooses it on other images.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, negative values, or a threshold out of its range.

    Source: PxAP of Choe et al., arXiv 2001.07437, in which one threshold holds for all images; here IoU.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 0.0]]]])
        >>> masks = torch.tensor([[[[True, False, False, False]]]])
        >>> iou_at(heatmaps, masks, threshold=0.7)
        tensor([0.5000], dtype=torch.float64)
    """
    return _at(Overlap(heatmaps, masks, undefined), threshold)


def iou_over_thresholds(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Mean of ``iou_at`` over the thresholds .01, .02, ..., 1: what a map is worth whose threshold nobody chose.

    Range [0, 1], higher is better; a flat map scores the object's area share. In an evaluation it leaves the curve of
    every image, from which ``sibx.evaluation.choose_thresholds`` reads the best threshold for all.

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
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 0.0]]]])
        >>> masks = torch.tensor([[[[True, False, False, False]]]])
        >>> iou_over_thresholds(heatmaps, masks)  # 1/3 up to .5, 1/2 up to .75, then 1
        tensor([0.5417], dtype=torch.float64)
    """
    return _over_thresholds(Overlap(heatmaps, masks, undefined)).mean(1)


def chosen_iou(thresholds: Mapping[str, float]) -> MetricSpec:
    """Return the metric ``iou_at_chosen``: ``iou_at`` with the threshold that was chosen for each method.

    Args:
        thresholds: name of a method -> threshold, above 0, at most 1; ``sibx.evaluation.choose_thresholds`` gives it.

    Raises:
        ValueError: no mapping, or a threshold out of its range; when scored, a method that has none.

    Example:
        >>> metric = chosen_iou({"gradcam": 0.4, "sib": 0.25})
        >>> metric.name, metric.needs_masks
        ('iou_at_chosen', True)
    """
    rule = "be a mapping, name of a method -> threshold"
    require(isinstance(thresholds, Mapping), "thresholds", rule, thresholds)
    for threshold in thresholds.values():
        _check(threshold)
    given = dict(thresholds)
    told = ", ".join(f"{threshold:g} for {method}" for method, threshold in given.items())

    def score(e: Explained) -> Tensor:
        require(e.method in given, "thresholds", f"hold one for every method, {e.method} too", sorted(given))
        return _at(e.once(overlap), given[e.method])

    return MetricSpec(
        name="iou_at_chosen",
        title="IoU at the chosen threshold",
        formula=f"intersection over union of s and {{a >= t}}, a scaled to [0, 1], t chosen elsewhere: {told}",
        score=score,
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance="area share of the object",
        needs_masks=True,
        reference="Choe 2020, arXiv 2001.07437",
    )


def _check(threshold: float) -> None:
    check_range("threshold", threshold, 0, 1)
    require(threshold > 0, "threshold", "be above 0, where every pixel is above", threshold)


def _at(o: Overlap, threshold: float) -> Tensor:
    _check(threshold)
    above = _scaled(o) >= threshold
    hits = precise((above & o.objects.bool()).sum(1))
    return o.where_defined(hits / (precise(above.sum(1)) + precise(o.object_pixels) - hits).clamp(min=1), o.largest)


def _over_thresholds(o: Overlap) -> Tensor:
    """Return IoU at every threshold, (B, CUTS) float64, NaN where undefined."""
    values = _scaled(o)
    grid = thresholds().to(values)
    passed = torch.bucketize(values.contiguous(), grid, right=True)  # how many thresholds a pixel reaches
    hits = _reaching(passed, precise(o.objects))
    above = _reaching(passed, torch.ones_like(values))
    overlaps = hits / (above + precise(o.object_pixels).unsqueeze(1) - hits).clamp(min=1)
    return torch.stack([o.where_defined(column, o.largest) for column in overlaps.unbind(1)], 1)


def thresholds() -> Tensor:
    """Return the thresholds, (CUTS,) float64."""
    return torch.arange(1, CUTS + 1, dtype=torch.float64) / CUTS


def _reaching(passed: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the weights of the pixels that reach each threshold, (B, CUTS)."""
    counts = weights.new_zeros(len(passed), CUTS + 1).scatter_add_(1, passed, weights)
    return counts.flip(1).cumsum(1).flip(1)[:, 1:]


def _scaled(o: Overlap) -> Tensor:
    """Return the maps in [0, 1], (B, P), 1 everywhere if flat, and -1 where undefined."""
    low, high = o.extremes
    scaled = ((precise(o.values) - low) / (high - low)).masked_fill(high == low, 1)
    return scaled if o.defined is None else scaled.where(o.defined, -1)


def _left(e: Explained) -> Tensor:
    curves = _over_thresholds(e.once(overlap))
    e.keep(OVER_THRESHOLDS, thresholds(), curves)
    return curves.mean(1)


IOU_OVER_THRESHOLDS = MetricSpec(
    name=OVER_THRESHOLDS,
    title="IoU over thresholds",
    formula="mean over t = .01, .02, ..., 1 of the intersection over union of s and {a >= t}, a scaled to [0, 1]",
    score=_left,
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object for a flat map",
    needs_masks=True,
    reference="mean over thresholds",
)
