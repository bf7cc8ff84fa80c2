"""Mask rules: functions that turn evidence into a soft or hard mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from sibx._checks import check_choice, check_images, check_range
from sibx._precise import precise
from sibx.attribution._soft_quantile import soft_quantile

Strength = Literal["abs_mean", "l2"]

EPSILON = 1e-8  # the authors' guard against division by zero where the 5 % and 95 % quantiles of a map agree
PAPER_WINDOW, PAPER_SIDE = 31, 224


class MaskRule(Protocol):
    """Turns evidence (B, C, H, W) into a mask (B, 1, H, W).

    ``needs`` names the keyword arguments that a rule needs besides the evidence: ``images`` (B, C, H, W), or ``tail``,
    the part of the model behind the layer, which predicts from masked features (``sibx.objectives.own_masks.tail``).
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the keyword arguments that it needs besides the evidence."""

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through the mask."""

    def __call__(self, evidence: Tensor, /, *args: Any, **others: Any) -> Tensor:
        """Return the mask."""


def strength(vjp_map: Tensor, reduce: Strength) -> Tensor:
    """Return the strength (B, 1, H, W) of a VJP map (B, C, H, W): |mean over channels|, or their L2 norm."""
    if reduce == "abs_mean":
        return vjp_map.mean(1, keepdim=True).abs()
    return torch.linalg.vector_norm(vjp_map, dim=1, keepdim=True)


@dataclass(frozen=True, slots=True)
class DensityMask:
    """The paper's mask: 1 where the VJP map has large values close together.

    ``g`` = strength of R per pixel, scaled by its soft 5 % and 95 % quantiles; ``h = sigmoid(slope (g - Q(g)))``;
    ``d`` = mean of h over a square window (zero padded, padding counted); ``M = sigmoid(slope (d - Q(d)))``.

    Attributes:
        window: odd side of the window in pixels; None = the paper's 31 at 224 px, in proportion to the image's side.
        quantile: which quantile Q is, in [0, 1].
        temperature: temperature of the soft quantiles, in ranks.
        slope: slope of both sigmoids.
        reduce: strength of R per pixel: ``"abs_mean"`` |mean over channels| (the paper), ``"l2"`` norm over channels.

    Calling it maps R (B, C, H, W) to M (B, 1, H, W) in (0, 1), differentiable, row by row. A constant map gives a
    constant M away from the border, where the zero padding lowers it. M never reaches 0 (its minimum is about 0.03).

    Raises:
        ValueError: a field out of range, an even window, or R that is not a floating-point (B, C, H, W).

    Source: arXiv 2511.09239 and its authors' published code (formula restated).

    Example:
        >>> DensityMask()(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    needs: ClassVar[tuple[str, ...]] = ()
    differentiable: ClassVar[bool] = True

    window: int | None = None
    quantile: float = 0.8
    temperature: float = 0.1
    slope: float = 10.0
    reduce: Strength = "abs_mean"

    def __post_init__(self) -> None:
        check_range("quantile", self.quantile, 0, 1)
        check_range("temperature", self.temperature, 1e-6)
        check_range("slope", self.slope, 0)
        check_choice("reduce", self.reduce, get_args(Strength))
        if self.window is not None and (self.window < 1 or self.window % 2 == 0):
            raise ValueError(f"`window` must be a positive odd number, but got {self.window}.")

    def __call__(self, vjp_map: Tensor) -> Tensor:
        """Return M (B, 1, H, W) for R (B, C, H, W)."""
        check_images(vjp_map, "vjp_map")
        density = self._pool(self._step(self._scale(strength(vjp_map, self.reduce))))
        return self._step(density)

    def _scale(self, values: Tensor) -> Tensor:
        low, high = (self._quantile(values, q) for q in (0.05, 0.95))
        return (values - low) / (high - low + EPSILON)

    def _step(self, values: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * (values - self._quantile(values, self.quantile)))

    def _quantile(self, values: Tensor, q: float) -> Tensor:
        return soft_quantile(values.flatten(1), q, self.temperature).view(-1, 1, 1, 1)

    def _pool(self, values: Tensor) -> Tensor:
        window = self.window or odd_window(max(values.shape[2:]))
        # The mean over a zero-padded square is the mean over columns of the means over rows. As products with band
        # matrices it is 8 times faster than two poolings of 31 pixels at 224 px, 50 times faster than one of 31 x 31.
        with torch.autocast(values.device.type, enabled=False):
            return _band(values.shape[2], window, values) @ values @ _band(values.shape[3], window, values)


def _band(side: int, window: int, like: Tensor) -> Tensor:
    """The (side, side) matrix whose product with a line is its running mean over an odd window."""
    position = torch.arange(side, device=like.device)
    return ((position[:, None] - position).abs() <= window // 2).to(like.dtype) / window


def odd_window(side: int) -> int:
    """Return the odd window nearest to the paper's 31 pixels at 224, for an image of this side."""
    return 2 * round((PAPER_WINDOW * side / PAPER_SIDE - 1) / 2) + 1


@dataclass(frozen=True, slots=True)
class TopShare:
    """A hard mask: 1 on the given share of the pixels with the largest values, 0 elsewhere.

    Attributes:
        share: share of the pixels in the mask, in (0, 1).

    Calling it maps (B, 1, H, W), or (B, C, H, W) by its L2 norm over channels, to (B, 1, H, W) of zeros and ones with
    ``round(share H W)`` ones (at least one) in every row. Not differentiable.

    Raises:
        ValueError: a share outside (0, 1), or a map that is not a floating-point (B, C, H, W).

    Example:
        >>> TopShare(0.5)(torch.tensor([0.1, 0.4, 0.3, 0.2]).view(1, 1, 1, 4))
        tensor([[[[0., 1., 1., 0.]]]])
    """

    needs: ClassVar[tuple[str, ...]] = ()
    differentiable: ClassVar[bool] = False

    share: float = 0.2

    def __post_init__(self) -> None:
        check_range("share", self.share, 1e-6, 1 - 1e-6)

    def __call__(self, evidence: Tensor) -> Tensor:
        """Return the hard mask (B, 1, H, W)."""
        check_images(evidence, "evidence")
        values = evidence if evidence.shape[1] == 1 else strength(evidence, "l2")
        flat = values.flatten(1)
        top = flat.topk(max(1, round(self.share * flat.shape[1])), dim=1).indices
        return _defined(torch.zeros_like(flat).scatter_(1, top, 1.0).view_as(values), values)


class HardDensityMask(DensityMask):
    """``DensityMask`` with steps instead of sigmoids and exact instead of soft quantiles: a mask of zeros and ones.

    Values at the quantile belong to the mask, so a map that is constant away from the border gives ones there. Not
    differentiable. ``temperature`` and ``slope`` have no effect.

    Attributes:
        window: odd side of the window in pixels; None = 31 at 224 px, in proportion to the image's side.
        quantile: which quantile Q is, in [0, 1].
        reduce: strength of R per pixel: ``"abs_mean"`` |mean over channels|, or ``"l2"`` norm over channels.

    Source: a variant that the authors of arXiv 2511.09239 left in their code (idea; the details are ours).
    """

    differentiable = False

    def __call__(self, vjp_map: Tensor) -> Tensor:
        """Return M (B, 1, H, W) for R (B, C, H, W), of its type: quantiles of half precision are single precision."""
        mask: Tensor = super().__call__(vjp_map)
        return _defined(mask.to(vjp_map.dtype), vjp_map)

    def _step(self, values: Tensor) -> Tensor:
        return (values >= self._quantile(values, self.quantile)).to(values.dtype)

    def _quantile(self, values: Tensor, q: float) -> Tensor:
        flat = values.flatten(1).to(torch.promote_types(values.dtype, torch.float32))
        found = flat.quantile(q, dim=1) if len(flat) else flat.sum(1)  # of nothing torch knows no quantile
        return found.view(-1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class PeakMask:
    """A soft mask without a window: ``M = sigmoid(slope (g - Q(g)))``, g = strength of R divided by its maximum.

    Attributes:
        quantile: which quantile the soft quantile Q is, in [0, 1].
        temperature: temperature of the soft quantile, in ranks.
        slope: slope of the sigmoid.
        reduce: strength of R per pixel: ``"abs_mean"`` |mean over channels|, or ``"l2"`` norm over channels.

    Calling it maps R (B, C, H, W) to M (B, 1, H, W) in (0, 1), differentiable. A constant map gives 1/2.

    Raises:
        ValueError: a field out of range, or R that is not a floating-point (B, C, H, W).

    Source: a variant that the authors of arXiv 2511.09239 left in their code (idea; the details are ours).
    """

    needs: ClassVar[tuple[str, ...]] = ()
    differentiable: ClassVar[bool] = True

    quantile: float = 0.8
    temperature: float = 0.1
    slope: float = 10.0
    reduce: Strength = "abs_mean"

    def __post_init__(self) -> None:
        DensityMask(None, self.quantile, self.temperature, self.slope, self.reduce)  # the same rules

    def __call__(self, vjp_map: Tensor) -> Tensor:
        """Return M (B, 1, H, W) for R (B, C, H, W)."""
        check_images(vjp_map, "vjp_map")
        values = strength(vjp_map, self.reduce)
        scaled = values / (values.amax((2, 3), keepdim=True) + EPSILON)
        threshold = soft_quantile(scaled.flatten(1), self.quantile, self.temperature).view(-1, 1, 1, 1)
        return torch.sigmoid(self.slope * (scaled - threshold))


@dataclass(frozen=True, slots=True)
class TopP:
    """A hard mask: the fewest pixels that together hold the share p of the map's strength.

    Attributes:
        p: share of the summed strength, in (0, 1).
        reduce: strength of R per pixel: ``"abs_mean"`` |mean over channels|, or ``"l2"`` norm over channels.

    Calling it maps R (B, C, H, W) to (B, 1, H, W) of zeros and ones; all zeros for a map of zeros. Found by sorting,
    which is exact where bisection for the threshold is not. Not differentiable.

    Raises:
        ValueError: p outside (0, 1), an unknown strength, or R that is not a floating-point (B, C, H, W).

    Source: a variant that the authors of arXiv 2511.09239 left in their code (idea; the details are ours).
    """

    needs: ClassVar[tuple[str, ...]] = ()
    differentiable: ClassVar[bool] = False

    p: float = 0.5
    reduce: Strength = "abs_mean"

    def __post_init__(self) -> None:
        check_range("p", self.p, 1e-6, 1 - 1e-6)
        check_choice("reduce", self.reduce, get_args(Strength))

    def __call__(self, vjp_map: Tensor) -> Tensor:
        """Return the hard mask (B, 1, H, W) for R (B, C, H, W)."""
        check_images(vjp_map, "vjp_map")
        values = strength(vjp_map, self.reduce)
        ranked, order = precise(values.flatten(1)).sort(dim=1, descending=True)
        before = ranked.cumsum(1) - ranked
        chosen = before < self.p * ranked.sum(1, keepdim=True)
        return _defined(torch.zeros_like(chosen).scatter_(1, order, chosen).view_as(values).to(values.dtype), values)


def _defined(mask: Tensor, values: Tensor) -> Tensor:
    """Return a hard mask with NaN in the rows whose values are not finite, as soft masks have it by themselves."""
    return mask.masked_fill(~values.isfinite().flatten(1).all(1).view(-1, 1, 1, 1), torch.nan)


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "density": DensityMask(),
    "density_l2": DensityMask(reduce="l2"),
    "hard_density": HardDensityMask(),
    "peak": PeakMask(),
    "top_p": TopP(),
    "top_share": TopShare(),
}
