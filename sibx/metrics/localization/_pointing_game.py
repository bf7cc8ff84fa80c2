"""Localization by the maximum: does the heatmap point at the object?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_range
from sibx.metrics.localization.overlap import prepare, where_defined
from sibx.metrics.spec import MetricSpec

TOLERANCE, TOLERANCE_SIDE = 15.0, 224  # pixels at an image side of 224, in proportion otherwise


def pointing_game(
    heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None, tolerance: float | None = None
) -> Tensor:
    """Whether the heatmap's maximum lies on the object, or within ``tolerance`` pixels of it.

    Tied maxima score the share of them that hits, so a flat map scores chance, the area share of the mask grown by the
    tolerance. Range [0, 1], higher is better.

    Args:
        heatmaps: (B, 1, H, W), floating point, at least 0.
        masks: (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool; a maximum is looked for elsewhere.
        tolerance: Euclidean distance in pixels, inclusive; None = 15 at an image side of 224, in proportion.

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


POINTING_GAME = MetricSpec(
    name="pointing_game",
    title="Pointing game",
    formula="share of the maxima of a within 15 px of s at a side of 224 px, in proportion otherwise",
    score=lambda e: pointing_game(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object grown by the tolerance",
    needs_masks=True,
    reference="Zhang 2018, arXiv 1608.00507",
)


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
