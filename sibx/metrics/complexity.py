"""Complexity: how few pixels carry the heatmap?

Every score takes heatmaps (B, 1, H, W) of any sign, looks at the magnitudes |a| of their P = H W pixels, and returns
(B,) float64; a heatmap that is zero everywhere or not finite scores NaN. No mask and no model takes part: these scores
say how easily a map is read, not whether it is right.
"""

import torch
from torch import Tensor

from sibx._checks import check_heatmaps, check_integer, require
from sibx._precise import precise, within_range
from sibx.metrics.spec import MetricSpec

TOLERANCE = 0.1  # of the map's largest magnitude; at 1e-5 every pixel of almost every map of a photograph counts
BINS = 100


def sparseness(heatmaps: Tensor) -> Tensor:
    """Gini index of the magnitudes, ``sum_k (2 k - P - 1) a_k / (P sum_k a_k)`` with a_1 <= ... <= a_P.

    Range [0, 1 - 1/P], higher is sparser, which is better; a flat map scores 0, a single pixel 1 - 1/P.

    Args:
        heatmaps: (B, 1, H, W), floating point, of any sign.

    Returns:
        (B,) float64, NaN where the heatmap is zero everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype.

    Source: Chalasani et al., arXiv 1810.06583.

    Example:
        >>> heatmaps = torch.tensor([[[[3.0, 1.0, 0.0, 0.0]]]])
        >>> sparseness(heatmaps)
        tensor([0.6250], dtype=torch.float64)
    """
    a = _magnitudes(heatmaps)
    pixels = a.shape[1]
    weights = torch.arange(1 - pixels, pixels, 2, dtype=a.dtype, device=a.device)
    return (a.sort(dim=1).values * weights).sum(1) / (pixels * a.sum(1))


SPARSENESS = MetricSpec(
    name="sparseness",
    title="Sparseness",
    formula="Gini index of the magnitudes |a|",
    score=lambda e: sparseness(e.heatmaps),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="0 for a flat map",
    reference="Chalasani 2020, arXiv 1810.06583",
)


def entropy(heatmaps: Tensor) -> Tensor:
    """Entropy of the shares of the map's mass, ``-sum_i p_i ln p_i`` with ``p = |a| / sum |a|``, in nats.

    Range [0, ln P], lower is better: 0 for a single pixel, ln P for a flat map. Divided by ln P it lies in [0, 1] and
    compares images of different sizes.

    Args:
        heatmaps: (B, 1, H, W), floating point, of any sign.

    Returns:
        (B,) float64, NaN where the heatmap is zero everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype.

    Source: complexity, Bhatt et al., arXiv 2005.00631.

    Example:
        >>> heatmaps = torch.tensor([[[[3.0, 1.0, 0.0, 0.0]]]])
        >>> entropy(heatmaps)
        tensor([0.5623], dtype=torch.float64)
    """
    a = _magnitudes(heatmaps)
    return torch.special.entr(a / a.sum(1, keepdim=True)).sum(1)


ENTROPY = MetricSpec(
    name="entropy",
    title="Entropy",
    formula="-sum(p ln p), p = |a| / sum |a|",
    score=lambda e: entropy(e.heatmaps),
    higher_is_better=False,
    bounds=(0.0, float("inf")),
    chance="ln(H W) for a flat map",
    reference="Bhatt 2020, arXiv 2005.00631",
)


def effective_complexity(heatmaps: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Share of the pixels that count: magnitude above ``tolerance`` times the largest one.

    Range [1/P, 1], lower is better; a flat map scores 1; times P it is a number of pixels. The tolerance is relative
    because the scale of attributions means nothing; in the paper it bounds the loss in prediction instead, which takes
    the model.

    Args:
        heatmaps: (B, 1, H, W), floating point, of any sign.
        tolerance: share of the largest magnitude that does not count yet, in [0, 1).

    Returns:
        (B,) float64, NaN where the heatmap is zero everywhere or not finite.

    Raises:
        ValueError: a wrong shape or dtype, or a tolerance outside [0, 1).

    Source: effective complexity, Nguyen and Martinez, arXiv 2007.07584.

    Example:
        >>> heatmaps = torch.tensor([[[[3.0, 1.0, 0.0, 0.0]]]])
        >>> effective_complexity(heatmaps)
        tensor([0.5000], dtype=torch.float64)
    """
    require(0 <= tolerance < 1, "tolerance", "lie in [0, 1)", tolerance)
    a = _magnitudes(heatmaps)
    counts = precise(a > tolerance * a.amax(1, keepdim=True)).mean(1)
    return counts.where(a.isfinite().all(1), torch.nan)


EFFECTIVE_COMPLEXITY = MetricSpec(
    name="effective_complexity",
    title="Effective complexity",
    formula="share of the pixels with |a| above a tenth of the largest",
    score=lambda e: effective_complexity(e.heatmaps),
    higher_is_better=False,
    bounds=(0.0, 1.0),
    chance="1 for a flat map",
    reference="Nguyen 2020, arXiv 2007.07584",
)


def histogram_entropy(heatmaps: Tensor, bins: int = BINS) -> Tensor:
    """Entropy in nats of a map's values in ``bins`` equal bins from its smallest to its largest.

    Range [0, ln(bins)]; 0 for a constant map.

    Args:
        heatmaps: (B, 1, H, W), floating point, of any sign.
        bins: number of bins, at least 2.

    Returns:
        (B,) float64, NaN where the map is not finite.

    Raises:
        ValueError: a wrong shape or dtype, or fewer than 2 bins.
    """
    check_heatmaps(heatmaps)
    check_integer("bins", bins, 2)
    a = within_range(precise(heatmaps.detach()).flatten(1))
    low, high = a.amin(1, keepdim=True), a.amax(1, keepdim=True)
    place = ((a - low) / (high - low) * bins).nan_to_num(0).long().clamp(0, bins - 1)
    counts = a.new_zeros(len(a), bins).scatter_add_(1, place, torch.ones_like(a))
    entropies = torch.special.entr(counts / a.shape[1]).sum(1)
    return entropies.masked_fill(~a.isfinite().all(1), torch.nan)


def _magnitudes(heatmaps: Tensor) -> Tensor:
    """|a| as (B, P) float64; NaN in rows that are zero everywhere or not finite."""
    check_heatmaps(heatmaps)
    a = precise(heatmaps.detach()).flatten(1).abs()
    good = a.isfinite().all(1) & (a > 0).any(1)
    return within_range(a).masked_fill(~good.unsqueeze(1), torch.nan)


COMPLEXITY: dict[str, MetricSpec] = {s.name: s for s in (SPARSENESS, ENTROPY, EFFECTIVE_COMPLEXITY)}
