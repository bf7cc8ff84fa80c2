"""HSIC and CKA with linear kernels: how much two sets of rows share over a batch."""

import torch.nn.functional as F
from torch import Tensor

from sibx._checks import require

EPSILON = 1e-12  # keeps CKA finite for constant rows; far below the HSIC of unit rows, 1 / B at least


def unit_rows(maps: Tensor) -> Tensor:
    """Flatten (B, ...) to (B, D) and scale every row to length 1; a zero row stays zero."""
    return F.normalize(maps.flatten(1), dim=1)


def hsic(a: Tensor, b: Tensor) -> Tensor:
    """Hilbert-Schmidt independence criterion of two batches of rows, linear kernels, biased estimator.

    ``sum((H K H) * (H L H)) / (B - 1)^2`` with ``K = a a^T``, ``L = b b^T``, ``H = I - 1/B``. Centering the rows does
    what H does, without building it.

    Args:
        a: (B, D) rows.
        b: (B, E) rows of the same B images.

    Returns:
        Scalar, at least 0; 0 when every feature of a is uncorrelated with every one of b over the batch. At most
        ``(B / (B - 1))^2`` for rows of length 1.

    Raises:
        ValueError: rows that are not (B, D) with one B, or B = 1, for which dependence is not defined.

    Source: Gretton et al. 2005 (biased estimator), as in arXiv 2511.09239.
    """
    require(a.ndim == 2 and a.shape[0] >= 2, "a", "be a tensor (B, D) with B of at least 2", a)
    require(b.ndim == 2 and b.shape[0] == a.shape[0], "b", f"be a tensor (B, E) with B = {a.shape[0]}", b)
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a @ a.T) * (b @ b.T)).sum() / (len(a) - 1) ** 2


def cka(a: Tensor, b: Tensor) -> Tensor:
    """Centered kernel alignment: ``hsic(a, b) / sqrt(hsic(a, a) hsic(b, b))``, HSIC without its scale.

    Args:
        a: (B, D) rows.
        b: (B, E) rows of the same B images.

    Returns:
        Scalar in [0, 1]; 1 when both have the same Gram matrix up to scale, 0 for constant rows.

    Raises:
        ValueError: as ``hsic``.

    Source: Kornblith et al., arXiv 1905.00414.
    """
    return hsic(a, b) / (hsic(a, a) * hsic(b, b)).clamp(min=EPSILON).sqrt()
