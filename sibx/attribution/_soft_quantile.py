"""A quantile that gradients flow through."""

import math

import torch
from torch import Tensor

from sibx._checks import check_range
from sibx._precise import precise_dtype

# A softmax weight below exp(-37) < 2^-53 of the largest one cannot change a float64 sum.
NEGLIGIBLE = 37


def soft_quantile(values: Tensor, q: float, temperature: float = 0.1, dim: int = -1) -> Tensor:
    """Differentiable quantile: the sorted values weighted by their closeness to rank q (n - 1).

    ``Q = sum_i w_i sort(v)_i`` with ``w = softmax(-|i - q (n - 1)| / temperature)``. Only the few order statistics
    whose weight is not negligible in float64 are computed: the result is the same, without sorting all values.

    Args:
        values: values of any shape; n is their number along ``dim``.
        q: which quantile, in [0, 1].
        temperature: how fast the weights fall with the distance from the rank, in ranks, > 0.
        dim: dimension that is reduced; it is kept with size 1.

    Returns:
        The quantiles, in the shape of ``values`` with size 1 along ``dim``.

    Raises:
        ValueError: q outside [0, 1] or a temperature that is not positive.

    Source: published code of the authors of arXiv 2511.09239 (formula restated).
    """
    check_range("q", q, 0, 1)
    check_range("temperature", temperature, 1e-6)
    rows = values.movedim(dim, -1)
    n = rows.shape[-1]
    rank = q * (n - 1)
    reach = math.ceil(NEGLIGIBLE * temperature)
    low, high = max(0, math.floor(rank) - reach), min(n - 1, math.ceil(rank) + reach)
    # Two unordered selections, one after the other: sorting the larger one would take as long again.
    if n - low <= high + 1:  # fewer values above than below
        around = rows.topk(n - low, sorted=False).values.topk(high - low + 1, largest=False).values
    else:
        below = rows.topk(high + 1, largest=False, sorted=False).values
        around = below.topk(high - low + 1).values.flip(-1)
    ranks = (
        torch.arange(low, high + 1, device=values.device, dtype=precise_dtype(values.device)) - rank
    )  # large ranks do not fit into half precision
    weights = torch.softmax(-ranks.abs().to(values.dtype) / temperature, 0)
    return (around * weights).sum(-1, keepdim=True).movedim(-1, dim)
