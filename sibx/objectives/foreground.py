"""The foreground term: how strongly R M and x M depend on each other over a batch; larger is better."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from sibx._checks import check_choice, check_integer, check_range
from sibx._hsic import MINIMUM_ROWS, Estimator, Kernel, cka, hsic


@dataclass(frozen=True, slots=True)
class HSIC:
    """The Hilbert-Schmidt independence criterion of R M and x M (the paper), see ``hsic``.

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` the length of the term's gradient as a
            share of the cross-entropy's.
        kernel: ``linear`` (the paper), or ``gaussian`` with its bandwidth by the median heuristic.
        estimator: ``biased`` (the paper), which needs 2 images with an object, or ``unbiased``, which needs 4; for a
            batch with fewer such images the foreground and background terms are 0.
        projection: width to which rows are projected at random, at least 1, by the same matrix at every step of one
            SIBLoss; None = no projection (the paper); 512 is in a variant of the authors' code.

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
        """Number of images that the estimator needs."""
        return MINIMUM_ROWS[self.estimator]

    def __call__(self, vjp_rows: Tensor, image_rows: Tensor) -> Tensor:
        """Return the term of the rows of R M (B, D) and x M (B, E), a scalar."""
        return hsic(vjp_rows, image_rows, kernel=self.kernel, estimator=self.estimator)


@dataclass(frozen=True, slots=True)
class CKA(HSIC):
    """Centered kernel alignment of R M and x M, HSIC without its scale, in [0, 1]; see ``cka``.

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` the length of the term's gradient as a
            share of the cross-entropy's.
        kernel: ``linear``, or ``gaussian`` with its bandwidth by the median heuristic.
        estimator: ``biased``, which needs 2 images with an object, or ``unbiased``, which needs 4.
        projection: width to which rows are projected at random, at least 1; None = no projection.

    Raises:
        ValueError: a field outside its range.
    """

    weight: float = 0.1

    def __call__(self, vjp_rows: Tensor, image_rows: Tensor) -> Tensor:
        """Return the term of the rows of R M (B, D) and x M (B, E), a scalar."""
        return cka(vjp_rows, image_rows, kernel=self.kernel, estimator=self.estimator)
