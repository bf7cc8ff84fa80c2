"""HSIC and CKA: how strongly two sets of rows depend on each other over a batch."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, check_range, require

Kernel = Literal["linear", "gaussian"]
Estimator = Literal["biased", "unbiased"]

MINIMUM_ROWS: dict[Estimator, int] = {"biased": 2, "unbiased": 4}
EPSILON = 1e-12  # smallest bandwidth of the Gaussian kernel, reached only if all rows are equal
# If more than half of the pairs are equal, their median distance is zero or a rounding error. The bandwidth is then
# this share of the mean: so small that the kernel only tells equal rows from others, and far above float32 rounding.
NARROWEST = 1e-4


def unit_rows(maps: Tensor) -> Tensor:
    """Flatten (B, ...) to (B, D) and scale every row to length 1; a zero row stays zero."""
    return F.normalize(maps.flatten(1), dim=1)


def hsic(a: Tensor, b: Tensor, *, kernel: Kernel = "linear", estimator: Estimator = "biased") -> Tensor:
    """Return the Hilbert-Schmidt independence criterion of two batches of rows.

    With Gram matrices ``K_ij = k(a_i, a_j)``, ``L_ij = k(b_i, b_j)``:

    - ``biased``: ``sum((H K H) * (H L H)) / (B - 1)^2``, ``H = I - 1/B``. Centering does what H does, without building
      it. Independent rows score above 0, by an amount that falls like 1 / B.
    - ``unbiased``: with zeroed diagonals, ``[tr(K L) + (1'K1)(1'L1) / ((B-1)(B-2)) - 2/(B-2) 1'KL1] / (B (B-3))``,
      computed as the inner product of U-centered matrices, which is the same number. Independent rows score 0 on
      average, so single values may be negative.

    Args:
        a: rows (B, D).
        b: rows (B, E) of the same B images.
        kernel: which k: ``linear``: ``x . y``; ``gaussian``: ``exp(-|x - y|^2 / (2 m))``, with m the median of the
            squared distances of all pairs i < j (the lower one of two middle values), separately for a and b; no
            gradient flows through m. If m is 0 although some rows differ, 1e-4 of the mean is used instead.
        estimator: which of the two formulas; ``biased`` needs B of at least 2, ``unbiased`` of at least 4.

    Returns:
        Scalar, 0 for constant rows. Biased: at least 0; 0 with the linear kernel if every feature of a is
        uncorrelated with every feature of b over the batch. At most ``(B / (B - 1))^2`` for rows of length 1.

    Raises:
        ValueError: rows that are not (B, D) and (B, E) with the same B, fewer rows than the estimator is defined for
            (2 and 4), or an unknown kernel or estimator.

    Source: Gretton et al. 2005 (biased estimator), as in arXiv 2511.09239; Song et al., JMLR 13, 2012 (unbiased);
    Székely and Rizzo 2014 (U-centering); Gretton et al. 2008 (median heuristic).

    Example:
        >>> rows = torch.tensor([[1.0], [-1.0]])
        >>> hsic(rows, 2 * rows)
        tensor(16.)
    """
    gram_a, gram_b = _grams(a, b, kernel, estimator)
    return _inner(gram_a, gram_b, estimator)


def cka(a: Tensor, b: Tensor, *, kernel: Kernel = "linear", estimator: Estimator = "biased") -> Tensor:
    """Return centered kernel alignment, HSIC without its scale: ``hsic(a, b) / sqrt(hsic(a, a) hsic(b, b))``.

    Args:
        a: rows (B, D).
        b: rows (B, E) of the same B images.
        kernel: ``linear``: ``x . y``; ``gaussian``: ``exp(-|x - y|^2 / (2 m))``, with m the median of the squared
            distances, separately for a and b.
        estimator: estimator of HSIC; ``biased`` needs B of at least 2, ``unbiased`` of at least 4.

    Returns:
        Scalar in [0, 1], unbiased in [-1, 1] (the ratio of unbiased estimates is not itself unbiased); 1 if both have
        the same Gram matrix up to scale, 0 for constant rows.

    Raises:
        ValueError: rows that are not (B, D) and (B, E) with the same B, fewer rows than the estimator is defined for
            (2 and 4), or an unknown kernel or estimator.

    Source: Kornblith et al., arXiv 1905.00414.

    Example:
        >>> rows = torch.tensor([[1.0], [-1.0]])
        >>> cka(rows, 2 * rows)
        tensor(1.)
    """
    gram_a, gram_b = _grams(a, b, kernel, estimator)
    own = (_inner(g, g, estimator).clamp(min=_rounding(r, kernel)).sqrt() for r, g in ((a, gram_a), (b, gram_b)))
    return _inner(gram_a, gram_b, estimator) / math.prod(own)


def _rounding(rows: Tensor, kernel: Kernel) -> Tensor:
    """Return the HSIC of rows with themselves below which it is only rounding of equal rows, at any scale."""
    limits = torch.finfo(rows.dtype)
    if kernel == "gaussian":
        return rows.new_tensor(limits.eps**2)
    # After centering, equal rows are off from zero by about eps, and their Gram matrix by eps^2 of the energy. Rows
    # that differ by one ten-thousandth are far above eps^1.5 of the energy, even in float32.
    energy = rows.detach().square().sum(1).mean()
    return (limits.eps**1.5 * energy).square().clamp(min=limits.tiny)


def _grams(a: Tensor, b: Tensor, kernel: Kernel, estimator: Estimator) -> tuple[Tensor, Tensor]:
    check_choice("kernel", kernel, ("linear", "gaussian"))
    check_choice("estimator", estimator, tuple(MINIMUM_ROWS))
    least = MINIMUM_ROWS[estimator]
    require(a.ndim == 2 and a.shape[0] >= least, "a", f"be a tensor (B, D) with B of at least {least}", a)
    require(b.ndim == 2 and b.shape[0] == a.shape[0], "b", f"be a tensor (B, E) with B = {a.shape[0]}", b)
    return centered_gram(a, kernel, estimator), centered_gram(b, kernel, estimator)


def centered_gram(rows: Tensor, kernel: Kernel, estimator: Estimator) -> Tensor:
    """Return the Gram matrix (B, B) of rows (B, D), centered as the estimator needs it."""
    rows = rows - rows.mean(0)  # distances stay the same, and the linear Gram matrix is centered
    gram = rows @ rows.T
    if kernel == "gaussian":
        gram = _gaussian(gram)
    if estimator == "unbiased":
        return _u_centered(gram)
    return gram if kernel == "linear" else gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()


def _gaussian(gram: Tensor) -> Tensor:
    """Return the Gaussian kernel minus 1 (centering removes a constant; constant rows then give exactly zero)."""
    squares = gram.diagonal()
    distances = (squares[:, None] + squares - 2 * gram).clamp(min=0)
    i, j = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    pairs = distances.detach()[i, j]
    bandwidth = pairs.median().clamp(min=NARROWEST * pairs.mean() + EPSILON)
    return torch.expm1(-distances / (2 * bandwidth))


def _u_centered(gram: Tensor) -> Tensor:
    """Return the matrix with a zero diagonal, and with rows and columns that sum to zero."""
    n = len(gram)
    diagonal = torch.eye(n, dtype=torch.bool, device=gram.device)
    gram = gram.masked_fill(diagonal, 0)
    sums = gram.sum(0) / (n - 2)
    return (gram - sums - sums[:, None] + sums.sum() / (n - 1)).masked_fill(diagonal, 0)


def _inner(gram_a: Tensor, gram_b: Tensor, estimator: Estimator) -> Tensor:
    n = len(gram_a)
    return (gram_a * gram_b).sum() / ((n - 1) ** 2 if estimator == "biased" else n * (n - 3))


class RandomProjection:
    """Multiplies rows (B, D) by a fixed random matrix (D, d): independent normal entries divided by ``sqrt(d)``.

    Inner products are kept on average, with a relative error near ``sqrt(2 / d)``. The matrix depends on the seed and
    on D only, so it is the same at every step, on every device and on every rank. Rows with D of at most d stay as
    they are.

    Args:
        dimensions: number d of columns of the matrix, at least 1.
        seed: seed of the random matrix.

    The projection costs more than the Gram matrix of B rows unless B is above d; what it saves is the size of the rows
    that ranks exchange. The matrix takes D d numbers.

    Raises:
        ValueError: d below 1.

    Source: Johnson and Lindenstrauss 1984; a variant in the published code of the authors of arXiv 2511.09239.
    """

    def __init__(self, dimensions: int, seed: int = 0):
        check_range("dimensions", dimensions, 1)
        self.dimensions, self.seed = dimensions, seed
        self._matrices: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (B, d), or the rows themselves when they are not wider than that."""
        width = rows.shape[1]
        if width <= self.dimensions:
            return rows
        key = (width, rows.device, rows.dtype)
        if key not in self._matrices:
            normal = torch.randn(width, self.dimensions, generator=torch.Generator().manual_seed(self.seed))
            self._matrices[key] = (normal / self.dimensions**0.5).to(rows)
        return rows @ self._matrices[key]
