"""Localization by the maximum: does the heatmap point at the object?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_range
from sibx._precise import precise
from sibx.metrics.localization._overlap import Overlap, overlap
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
        masks: (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part: a maximum is looked for elsewhere.
        tolerance: Euclidean distance in pixels, inclusive; None = 15 px at a side of 224 px, in proportion.

    Returns:
        (B,) float64. NaN for an image without object pixels or without others, and for a heatmap that is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, negative values, or a negative tolerance.

    Source: Zhang et al., arXiv 1608.00507 (tolerance 15 px).

    Example:
        >>> heatmaps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
        >>> masks = torch.tensor([[[[True, False, True, False]]]])
        >>> pointing_game(heatmaps, masks)
        tensor([1.], dtype=torch.float64)
    """
    return _pointing(Overlap(heatmaps, masks, undefined), tolerance)


def _pointing(o: Overlap, tolerance: float | None = None) -> Tensor:
    reach = TOLERANCE * max(o.size) / TOLERANCE_SIDE if tolerance is None else tolerance
    check_range("tolerance", reach, 0)
    rows, y, x = _maxima(o)
    hits = precise(_object_within(o.objects.view(-1, *o.size), rows, y, x, reach))
    none = hits.new_zeros(len(o.values))
    return none.index_add(0, rows, hits) / none.index_add(0, rows, torch.ones_like(hits))


def _maxima(o: Overlap) -> tuple[Tensor, Tensor, Tensor]:
    """Find the maxima of every map whose score is defined: in which row of the batch, y, x; (N,) each."""
    values = o.values.view(-1, *o.size)
    lines = values.amax(2)  # (B, H): only few of them hold a maximum, and only those are searched
    peaks = o.where_defined(o.largest, o.largest)  # NaN equals nothing
    rows, y = (lines == peaks.unsqueeze(1)).nonzero(as_tuple=True)
    line, x = (values[rows, y] == peaks[rows].unsqueeze(1)).nonzero(as_tuple=True)
    return rows[line], y[line], x


POINTING_GAME = MetricSpec(
    name="pointing_game",
    title="Pointing game",
    formula="share of the maxima of a within 15 px of s at a side of 224 px, in proportion otherwise",
    score=lambda e: _pointing(e.once(overlap)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object grown by the tolerance",
    needs_masks=True,
    reference="Zhang 2018, arXiv 1608.00507",
)


def _object_within(objects: Tensor, rows: Tensor, y: Tensor, x: Tensor, reach: float) -> Tensor:
    """For points (row, y, x), whether an object pixel of that row of (B, H, W) lies within reach."""
    radius = int(reach)
    offsets = torch.arange(-radius, radius + 1, device=objects.device)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    near = (dy**2 + dx**2) <= reach**2
    padded = F.pad(objects, (radius, radius, radius, radius))
    height, width = padded.shape[1:]
    disc = ((dy + radius) * width + dx + radius)[near]
    corners = (rows * height + y) * width + x
    flat = padded.flatten()
    # A flat map ties everywhere: look at the points in blocks to bound the memory.
    block = max(1, 4_000_000 // len(disc))
    return torch.cat([flat[c[:, None] + disc].amax(1) for c in corners.split(block)]).bool()
