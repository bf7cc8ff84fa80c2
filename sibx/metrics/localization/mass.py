"""Localization by mass: how much of the heatmap lies on the object?"""

import torch
from torch import Tensor

from sibx._checks import check_heatmaps
from sibx.metrics.localization._overlap import Overlap, overlap
from sibx.metrics.spec import MetricSpec


def foreground_focus(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Share of the heatmap's mass on the object: ``sum(a s) / sum(a)``.

    Range [0, 1], higher is better; a flat map scores the object's area share, which is chance.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: energy-based pointing game, Wang et al., arXiv 1910.01279; relevance mass accuracy, Arras et al., arXiv
    2003.07258.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> foreground_focus(heatmaps, masks)
        tensor([0.6000], dtype=torch.float64)
    """
    return _focus(Overlap(heatmaps, masks, undefined))


def _focus(o: Overlap) -> Tensor:
    inside, outside = o.masses
    mass = inside + outside
    return o.where_defined(inside / mass, mass)


FOREGROUND_FOCUS = MetricSpec(
    name="foreground_focus",
    title="Foreground focus",
    formula="sum(a s) / sum(a)",
    score=lambda e: _focus(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Wang 2020, arXiv 1910.01279; Arras 2022, arXiv 2003.07258",
)


def foreground_lift(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Foreground focus divided by the object's area share: how many times better than a flat map.

    Range [0, 1 / area share], higher is better, chance 1.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: the weighted form of attribution localization, Kohlbrenner et al., arXiv 1910.09840.

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> foreground_lift(heatmaps, masks)
        tensor([1.2000], dtype=torch.float64)
    """
    return _lift(Overlap(heatmaps, masks, undefined))


def _lift(o: Overlap) -> Tensor:
    return _focus(o) * (o.object_pixels + o.background_pixels) / o.object_pixels


FOREGROUND_LIFT = MetricSpec(
    name="foreground_lift",
    title="Foreground lift",
    formula="foreground focus / area share of s",
    score=lambda e: _lift(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, float("inf")),
    chance="1",
    needs_masks=True,
    reference="foreground focus / area share; Kohlbrenner 2020, arXiv 1910.09840",
)


def attribution_localization(
    attributions: Tensor, masks: Tensor, *, undefined: Tensor | None = None, weighted: bool = False
) -> Tensor:
    """Share of the positive relevance on the object, ``mu = R_in / R_tot``, or ``mu_w = mu S_tot / S_in``.

    The only localization score that takes signed maps: R is the sum of the positive values, S the number of pixels. Of
    a map without negative values mu is the foreground focus and mu_w the foreground lift, so the METRICS table has
    those two. Range [0, 1], weighted [0, S_tot / S_in], higher is better; chance: the object's area share, weighted 1.

    Args:
        attributions: (B, 1, H, W), floating point, of any sign.
        masks: (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.
        weighted: whether to divide by the object's area share S_in / S_tot of each image.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a map without a positive value
        or with one that is not finite.

    Raises:
        ValueError: a wrong shape or dtype.

    Source: Kohlbrenner et al., arXiv 1910.09840, whose masks are bounding boxes.

    Example:
        >>> attributions = torch.tensor([[[[3.0, 1.0, -2.0, 0.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> attribution_localization(attributions, masks)
        tensor([0.7500], dtype=torch.float64)
    """
    check_heatmaps(attributions, "attributions")
    score = foreground_lift if weighted else foreground_focus
    return score(attributions.clamp(min=0).where(attributions.isfinite(), torch.nan), masks, undefined=undefined)


def background_suppression(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """How silent the background is: ``m_in / (m_in + m_out)`` with the mean of the heatmap inside and outside.

    Range [0, 1], higher is better; a flat map scores 0.5 whatever the object's size, which is chance, a silent
    background 1.

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
        >>> background_suppression(heatmaps, masks)
        tensor([0.6000], dtype=torch.float64)
    """
    return _suppression(Overlap(heatmaps, masks, undefined))


def _suppression(o: Overlap) -> Tensor:
    inside, outside = o.masses
    inside_mean, outside_mean = inside / o.object_pixels, outside / o.background_pixels
    return o.where_defined(inside_mean / (inside_mean + outside_mean), inside + outside)


BACKGROUND_SUPPRESSION = MetricSpec(
    name="background_suppression",
    title="Background suppression",
    formula="m_in / (m_in + m_out), the means of a inside and outside s",
    score=lambda e: _suppression(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="0.5",
    needs_masks=True,
    reference="sibx",
)
