"""Localization by mass: how much of the heatmap lies on the object?"""

import torch
from torch import Tensor

from sibx._checks import check_heatmaps
from sibx.metrics.localization.overlap import prepare, where_defined
from sibx.metrics.spec import MetricSpec


def foreground_focus(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Share of the heatmap's mass on the object: ``sum(a s) / sum(a)``.

    Range [0, 1], higher is better; a flat map scores the object's area share, which is chance.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool, pixels left out.

    Returns:
        (B,) float64, NaN where undefined (see the module).

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: energy-based pointing game, Wang et al., arXiv 1910.01279; relevance mass accuracy, Arras et al., arXiv
    2003.07258.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    return where_defined((a * s).sum(1) / a.sum(1), a, s, defined)


FOREGROUND_FOCUS = MetricSpec(
    name="foreground_focus",
    title="Foreground focus",
    formula="sum(a s) / sum(a)",
    score=lambda e: foreground_focus(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Wang 2020, arXiv 1910.01279; Arras 2022, arXiv 2003.07258",
)


def foreground_lift(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Foreground focus divided by the object's area share: how many times better than a flat map.

    Range [0, 1 / area share], higher is better, chance 1. Arguments, undefined cases and errors as
    ``foreground_focus``.
    """
    _, s, defined = prepare(heatmaps, masks, undefined)
    return foreground_focus(heatmaps, masks, undefined=undefined) * defined.sum(1) / s.sum(1)


FOREGROUND_LIFT = MetricSpec(
    name="foreground_lift",
    title="Foreground lift",
    formula="foreground focus / area share of s",
    score=lambda e: foreground_lift(e.heatmaps, e.masks, undefined=e.undefined),
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
        masks: (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool, pixels left out.
        weighted: whether to divide by the object's area share S_in / S_tot of each image.

    Returns:
        (B,) float64, NaN where undefined (see the module), and where no value is positive.

    Raises:
        ValueError: a wrong shape or dtype.

    Source: Kohlbrenner et al., arXiv 1910.09840, whose masks are bounding boxes.
    """
    check_heatmaps(attributions, "attributions")
    score = foreground_lift if weighted else foreground_focus
    return score(attributions.clamp(min=0).where(attributions.isfinite(), torch.nan), masks, undefined=undefined)


def background_suppression(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """How silent the background is: ``m_in / (m_in + m_out)`` with the mean of the heatmap inside and outside.

    Range [0, 1], higher is better; a flat map scores 0.5 whatever the object's size, a silent background 1.
    Arguments, undefined cases and errors as ``foreground_focus``. Source: sibx.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    inside, pixels = a * s, s.sum(1)
    inside_mean = inside.sum(1) / pixels
    outside_mean = (a - inside).sum(1) / (defined.sum(1) - pixels)
    return where_defined(inside_mean / (inside_mean + outside_mean), a, s, defined)


BACKGROUND_SUPPRESSION = MetricSpec(
    name="background_suppression",
    title="Background suppression",
    formula="m_in / (m_in + m_out), the means of a inside and outside s",
    score=lambda e: background_suppression(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="0.5",
    needs_masks=True,
    reference="sibx",
)
