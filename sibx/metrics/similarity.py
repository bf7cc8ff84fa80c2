"""How alike two heatmaps of one image are, row by row.

Both take heatmaps (B, 1, H, W), at least 0, and return (B,) float64 that does not depend on the scale of either map.
NaN where one of the maps is not finite, or the first is zero everywhere: the first is the explanation, the second what
became of it, and a map that has gone silent is an answer.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, check_heatmaps, check_range, require
from sibx._precise import precise

Similarity = Literal["spearman", "ssim"]
WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian window, in pixels
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants for a data range of 1


def compare(similarity: Similarity, heatmaps: Tensor, others: Tensor) -> Tensor:
    """Return ``spearman`` or ``ssim``, by name.

    Raises:
        ValueError: an unknown name, or what the function itself raises.
    """
    check_choice("similarity", similarity, tuple(SIMILARITIES))
    return SIMILARITIES[similarity](heatmaps, others)


def spearman(heatmaps: Tensor, others: Tensor) -> Tensor:
    """Spearman's rank correlation of the pixels, ties by their mean rank.

    Range [-1, 1]: 1 = the same order, 0 = unrelated, -1 = the opposite order. A second map that is constant has
    covariance 0 with everything and scores 0; a constant first map is undefined (NaN).

    Args:
        heatmaps: (B, 1, H, W), floating point, at least 0.
        others: the maps to compare with, of the same shape.

    Returns:
        (B,) float64, NaN where one of the maps is not finite or the first is constant.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: Spearman 1904, American Journal of Psychology 15.

    Example:
        >>> heatmaps = torch.tensor([[[[3.0, 2.0, 1.0, 0.0]]]])
        >>> spearman(heatmaps, heatmaps.square())
        tensor([1.], dtype=torch.float64)
    """
    a, b, good = _prepare(heatmaps, others)
    a, b = centered_ranks(a), centered_ranks(b)
    spread_a, spread_b = a.square().sum(1), b.square().sum(1)
    product = (spread_a * spread_b).sqrt()
    correlation = ((a * b).sum(1) / product).masked_fill(product == 0, 0)
    return correlation.masked_fill(~good | (spread_a == 0), torch.nan)


def ssim(heatmaps: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity, each map divided by its maximum (data range 1).

    Gaussian windows of 11 x 11 pixels (sigma 1.5) that lie within the image, K1 = .01, K2 = .03, as published. Range
    [-1, 1], 1 = the same map. Where both maps are far below their maxima the constants make any two values alike: two
    maps with one outlier each score high, so prefer ``spearman`` for grainy maps.

    Args:
        heatmaps: (B, 1, H, W), floating point, at least 0, sides of at least 11 pixels.
        others: the maps to compare with, of the same shape.

    Returns:
        (B,) float64, NaN where one of the maps is not finite or the first is zero everywhere.

    Raises:
        ValueError: a wrong shape or dtype, negative values, or maps smaller than the window.

    Source: Wang et al. 2004, IEEE TIP 13 (4).
    """
    a, b, good = _prepare(heatmaps, others)
    size = heatmaps.shape[2:]
    require(min(size) >= WINDOW, "heatmaps", f"have sides of at least {WINDOW} pixels for SSIM", heatmaps)
    planes = [(p / p.amax(1, keepdim=True)).nan_to_num(0).view(-1, 1, *size) for p in (a, b)]
    x, y = planes
    mean_x, mean_y, xx, yy, xy = (_blur(p) for p in (x, y, x * x, y * y, x * y))
    cov, var_x, var_y = xy - mean_x * mean_y, xx - mean_x**2, yy - mean_y**2
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * cov + C2) / (var_x + var_y + C2)
    return (luminance * structure).mean((1, 2, 3)).masked_fill(~good, torch.nan)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of the rows of two tensors (B, n), (B,) float64; NaN where a row is constant or not finite.

    Range [-1, 1], whatever the scale and the level of either.
    """
    rows = [precise(values) for values in (first, second)]
    varies = [(row != row[:, :1]).any(1) for row in rows]  # rounding gives a constant row a spread
    centered = [row - row.mean(1, keepdim=True) for row in rows]
    a, b = (row / row.abs().amax(1, keepdim=True) for row in centered)
    correlation = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return correlation.clamp(-1, 1).masked_fill(~(varies[0] & varies[1]), torch.nan)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"spearman": spearman, "ssim": ssim}


def _prepare(heatmaps: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Check; both as (B, P) float64, and which rows are defined."""
    for argument, maps in (("heatmaps", heatmaps), ("others", others)):
        check_heatmaps(maps, argument)
        lowest = float(maps.detach().nan_to_num(0).min()) if maps.numel() else 0.0
        check_range(argument, lowest, 0)
    shape = tuple(heatmaps.shape)
    require(tuple(others.shape) == shape, "others", f"have the shape of the heatmaps, {shape}", others)
    a, b = (precise(maps.detach()).flatten(1).contiguous() for maps in (heatmaps, others))
    return a, b, a.isfinite().all(1) & b.isfinite().all(1) & (a > 0).any(1)


def centered_ranks(values: Tensor) -> Tensor:
    """Rank of every pixel in its row (B, P), ties by their mean, minus the mean rank."""
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    return precise(below + up_to - values.shape[1]) / 2


def _blur(planes: Tensor) -> Tensor:
    """Gaussian mean of every window of (B, 1, H, W) that lies within the image."""
    offsets = torch.arange(WINDOW, dtype=planes.dtype, device=planes.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    return F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
