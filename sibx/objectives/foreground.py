"""The foreground term: what R M shares with x M over a batch; larger is better."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from sibx._checks import check_choice, check_integer, check_range
from sibx.objectives._hsic import MINIMUM_ROWS, Estimator, Kernel, cka, hsic


@dataclass(frozen=True, slots=True)
class HSIC:
    """The Hilbert-Schmidt independence criterion of R M and x M (the paper), see ``hsic``.

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` a share of the cross-entropy's pull.
        kernel: ``linear`` (the paper) or ``gaussian``, its bandwidth by the median heuristic.
        estimator: ``biased`` (the paper) or ``unbiased``. They need 2 and 4 images with an object; the foreground and
            background terms of a batch with fewer are 0.
        projection: width of the ``RandomProjection`` of the rows, at least 1, the same at every step of one SIBLoss;
            None = rows as they are (the paper); 512 is in a variant of the authors' code.

    Raises:
        ValueError: a field outside its range.
    """

    weight: float = 0.01
    kernel: Kernel = "linear"
    estimator: Estimator = "biased"
    projection: int | None = None

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0)
        check_choice("kernel", self.kernel, get_args(Kernel))
        check_choice("estimator", self.estimator, get_args(Estimator))
        if self.projection is not None:
            check_integer("projection", self.projection, 1)

    @property
    def least_rows(self) -> int:
        """Images that the estimator needs."""
        return MINIMUM_ROWS[self.estimator]

    def __call__(self, vjp_rows: Tensor, image_rows: Tensor) -> Tensor:
        """Return the term of the rows of R M (B, D) and x M (B, E), a scalar."""
        return hsic(vjp_rows, image_rows, kernel=self.kernel, estimator=self.estimator)


@dataclass(frozen=True, slots=True)
class CKA(HSIC):
    """Centered kernel alignment of R M and x M, HSIC without its scale, in [0, 1]; see ``cka``. Fields as ``HSIC``."""

    weight: float = 0.1

    def __call__(self, vjp_rows: Tensor, image_rows: Tensor) -> Tensor:
        """Return the term of the rows of R M (B, D) and x M (B, E), a scalar."""
        return cka(vjp_rows, image_rows, kernel=self.kernel, estimator=self.estimator)
