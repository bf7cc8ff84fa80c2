"""Localization by mass and by maximum: does the heatmap lie on the object?

Every score takes heatmaps (B, 1, H, W), at least 0, and masks (B, 1, H, W), and returns (B,) float64. Pixels in
``undefined`` (trimap boundary, void) take no part. A score is NaN where it is undefined: no object pixel or nothing
but object among the defined pixels, a heatmap that is zero everywhere there, or one that is not finite.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from sibx._checks import check_explained, check_heatmaps, check_masks, check_range
from sibx.datasets.base import MaskedBatch, MaskedDataset, collate

TOLERANCE, TOLERANCE_SIDE = 15.0, 224  # pixels at an image side of 224, in proportion otherwise


def foreground_focus(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
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


def foreground_lift(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Foreground focus divided by the object's area share: how many times better than a flat map.

    Range [0, 1 / area share], higher is better, chance 1. Arguments, undefined cases and errors as
    ``foreground_focus``.
    """
    _, s, defined = prepare(heatmaps, masks, undefined)
    return foreground_focus(heatmaps, masks, undefined) * defined.sum(1) / s.sum(1)


def attribution_localization(
    attributions: Tensor, masks: Tensor, undefined: Tensor | None = None, *, weighted: bool = False
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
    return score(attributions.clamp(min=0).where(attributions.isfinite(), torch.nan), masks, undefined)


def focus(explain: Callable[[Tensor, Tensor], Tensor], mosaics: MaskedDataset, batch_size: int = 32) -> Tensor:
    """Foreground focus of mosaics: the share of the heatmap in the two quadrants of the class explained.

    Range [0, 1], higher is better; chance is 0.5, which a map that does not depend on the class scores on average.

    Args:
        explain: (images (B, C, H, W), targets (B,)) -> heatmaps (B, 1, H, W), at least 0, for the given classes.
        mosaics: ``sibx.datasets.MosaicDataset``.
        batch_size: mosaics explained at once.

    Returns:
        One value per mosaic, float64, NaN where the heatmap is zero everywhere or not finite.

    Raises:
        ValueError: ``batch_size`` below 1, or ``explain`` does not return heatmaps of the mosaics.

    Source: Arias-Duart et al., arXiv 2109.15035, positive relevance only.
    """
    check_range("batch_size", batch_size, 1)

    def score(batch: MaskedBatch) -> Tensor:
        heatmaps = check_explained(explain(batch.images, batch.labels), batch.images)
        return foreground_focus(heatmaps, batch.masks.to(heatmaps.device))

    return torch.cat([score(batch) for batch in DataLoader(mosaics, batch_size, collate_fn=collate)])


def background_suppression(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """How silent the background is: ``m_in / (m_in + m_out)`` with the mean of the heatmap inside and outside.

    Range [0, 1], higher is better; a flat map scores 0.5 whatever the object's size, a silent background 1.
    Arguments, undefined cases and errors as ``foreground_focus``. Source: sibx.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    inside, pixels = a * s, s.sum(1)
    inside_mean = inside.sum(1) / pixels
    outside_mean = (a - inside).sum(1) / (defined.sum(1) - pixels)
    return where_defined(inside_mean / (inside_mean + outside_mean), a, s, defined)


def pointing_game(
    heatmaps: Tensor, masks: Tensor, tolerance: float | None = None, undefined: Tensor | None = None
) -> Tensor:
    """Whether the heatmap's maximum lies on the object, or within ``tolerance`` pixels of it.

    Tied maxima score the share of them that hits, so a flat map scores chance, the area share of the mask grown by the
    tolerance. Range [0, 1], higher is better.

    Args:
        heatmaps: (B, 1, H, W), floating point, at least 0.
        masks: (B, 1, H, W) bool.
        tolerance: Euclidean distance in pixels, inclusive; None = 15 at an image side of 224, in proportion.
        undefined: (B, 1, H, W) bool; a maximum is looked for elsewhere.

    Returns:
        (B,) float64, NaN where undefined (see the module).

    Raises:
        ValueError: a wrong shape or dtype, negative values, or a negative tolerance.

    Source: Zhang et al., arXiv 1608.00507 (tolerance 15 px).
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    side = max(heatmaps.shape[2:])
    reach = TOLERANCE * side / TOLERANCE_SIDE if tolerance is None else tolerance
    check_range("tolerance", reach, 0)
    is_maximum = a == a.amax(1, keepdim=True)  # above 0 wherever the score is defined, so not at undefined pixels
    rows, pixels = is_maximum.nonzero(as_tuple=True)
    hits = _object_within(s.view(masks[:, 0].shape), rows, pixels, reach).double()
    score = a.new_zeros(len(a)).index_add_(0, rows, hits) / is_maximum.sum(1)
    return where_defined(score, a, s, defined)


def _object_within(masks: Tensor, rows: Tensor, pixels: Tensor, reach: float) -> Tensor:
    """For points (row, pixel), whether an object pixel of that row's mask (B, H, W) lies within reach."""
    radius = int(reach)
    offsets = torch.arange(-radius, radius + 1, device=masks.device)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    near = (dy**2 + dx**2) <= reach**2
    width = masks.shape[2]
    padded = F.pad(masks, (radius, radius, radius, radius))
    padded_width = width + 2 * radius
    disc = ((dy + radius) * padded_width + dx + radius)[near]
    corner = (
        rows * padded.shape[1] * padded_width + pixels.div(width, rounding_mode="floor") * padded_width + pixels % width
    )
    flat = padded.flatten()
    # A flat map ties everywhere: look at the points in blocks to bound the memory.
    block = max(1, 4_000_000 // len(disc))
    return torch.cat([flat[c[:, None] + disc].any(1) for c in corner.split(block)])


def prepare(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check and flatten to (B, P): heatmap values (0 at undefined pixels), object pixels, defined pixels."""
    check_heatmaps(heatmaps)
    check_masks(masks, heatmaps)
    if undefined is not None:
        check_masks(undefined, heatmaps, "undefined")
    if (heatmaps < 0).any():
        check_range("heatmaps", float(heatmaps.detach().nan_to_num(0).min()), 0)
    a, s = heatmaps.detach().double().flatten(1), masks.flatten(1)
    if undefined is None:
        return a, s, torch.ones_like(s)
    defined = ~undefined.flatten(1)
    return a.masked_fill(~defined, 0), s & defined, defined


def where_defined(score: Tensor, a: Tensor, s: Tensor, defined: Tensor) -> Tensor:
    """NaN for rows with an empty or full mask, a zero map or a non-finite one."""
    mass, object_pixels = a.sum(1), s.sum(1)  # a sum of values >= 0 is finite where all of them are
    good = (object_pixels > 0) & (object_pixels < defined.sum(1)) & mass.isfinite() & (mass > 0)
    return score.masked_fill(~good, torch.nan)
