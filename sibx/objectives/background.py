"""The background term: how much of R lies outside M; smaller is better.

Undefined pixels are neither object nor background: U is their share of every cell, and ``1 - M - U`` the background's.
"""

from dataclasses import dataclass

from torch import Tensor

from sibx._checks import check_range
from sibx.runs.ranks import gather_rows

EPSILON = 1e-30  # keeps a fraction finite where R is exactly zero; such an image then contributes zero


@dataclass(frozen=True, slots=True)
class Variance:
    """The variance of R (1 - M) over channels and positions of every image (the paper), in squared units of R.

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` the length of the term's gradient as a
            share of the cross-entropy's.

    Raises:
        ValueError: a weight below 0.
    """

    weight: float = 1000.0

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0)

    def __call__(self, vjp_map: Tensor, strength: Tensor, mask: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
        """Return the term of every image, (B,).

        Args:
            vjp_map: VJP map R, (B, C, h, w).
            strength: strength of R, at least 0, (B, C or 1, h, w); not used by this term.
            mask: mask M, (B, 1, h, w).
            undefined: share U of every cell that is undefined, (B, 1, h, w); R counts as zero there, as on the object.
        """
        return (vjp_map * (1 - mask - undefined)).flatten(1).var(1)


@dataclass(frozen=True, slots=True)
class Fraction:
    """The fraction of the strength of R outside M, ``sum(s (1 - M)) / sum(s)``, in [0, 1]: a term without a scale.

    With undefined pixels it is ``sum(s (1 - M - U)) / sum(s (1 - U))``.

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` the length of the term's gradient as a
            share of the cross-entropy's.

    Raises:
        ValueError: a weight below 0.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0)

    def __call__(self, vjp_map: Tensor, strength: Tensor, mask: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
        """Return the term of every image, (B,).

        Args:
            vjp_map: VJP map R, (B, C, h, w); not used by this term.
            strength: strength s of R, at least 0, (B, C or 1, h, w).
            mask: mask M, (B, 1, h, w).
            undefined: share U of every cell that is undefined, (B, 1, h, w).
        """
        counted = strength * (1 - undefined)
        outside, everywhere = (s.flatten(1).sum(1) for s in (strength * (1 - mask - undefined), counted))
        return outside / everywhere.clamp(min=EPSILON)


@dataclass(frozen=True, slots=True)
class Contrast:
    """What lies outside M, less what lies outside the batch's mean mask P: ``sum(s (P - M)) / sum(s)``, in [-1, 1].

    A cell that is object in every picture, or in none, counts nothing: it does not pay to move R to where objects
    usually are, only to where this picture has its object. With its sign turned it is the covariance over the batch of
    where R lies and where the object is, summed over cells. With undefined pixels it is
    ``sum(s (P (1 - U) - M)) / sum(s (1 - U))``. P is the mean over the global batch's images with an object; of one
    such image alone nothing is asked.

    On small sets it gained over shuffled masks what it gained over cross-entropy, which ``Fraction`` does not, and
    moved maps less far in all (docs/experiments/further_ahead.md).

    Attributes:
        weight: factor of the term in the loss, at least 0; with ``GradNorm`` the length of the term's gradient as a
            share of the cross-entropy's.

    Raises:
        ValueError: a weight below 0.

    Source: ours.

    Example:
        >>> strength, masks = torch.ones(2, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
        >>> Contrast()(strength, strength, masks)
        tensor([ 0.2500, -0.2500])
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0)

    def __call__(self, vjp_map: Tensor, strength: Tensor, mask: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
        """Return the term of every image, (B,).

        Args:
            vjp_map: VJP map R, (B, C, h, w); not used by this term.
            strength: strength s of R, at least 0, (B, C or 1, h, w).
            mask: mask M, (B, 1, h, w).
            undefined: share U of every cell that is undefined, (B, 1, h, w).
        """
        masks, defined = gather_rows(mask), 1 - undefined
        usual = masks.sum(0, keepdim=True) / masks.flatten(1).any(1).sum().clamp(min=1)  # P (1, 1, h, w)
        missed = (strength * (usual * defined - mask)).flatten(1).sum(1)
        return missed / (strength * defined).flatten(1).sum(1).clamp(min=EPSILON)
