"""Where the units of a layer look: the stride and offset that a feature map has on the image."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import describe, require
from sibx._precise import precise
from sibx.models.layers import eval_mode, module_of, run_plainly
from sibx.models.layout import is_channels_last, to_grid
from sibx.models.plain import plain_gradient
from sibx.models.scored import unwrap

ROOMY = 608  # side of the probing image; the receptive field of its central unit fits into it in the usual networks
SMALL = 160  # side of the image tried first, at a tenth of the cost; it holds what units of small networks see
PERIOD = 32  # sides with the same remainder are padded alike at every stride up to 32, also by TensorFlow's "same" rule
PLACES = 4  # units along the diagonal that are measured where there are as many
EPSILON = 1e-6  # in pixels; added to the reach of a window, so that its last pixel is inside despite rounding
KEPT = 32  # matrices of weights, of some thousand numbers each; a layer needs one or two
Weigh = Callable[[float, float, int, int], Tensor]  # stride, offset, units, pixels -> the weights of one axis


class ReceptiveField(NamedTuple):
    """Unit (i, j) of a feature map looks around pixel ``offset + (i, j) * stride``; pixel (0, 0) is the upper left one.

    Attributes:
        stride: distance (y, x) between the points where neighboring units look, in pixels.
        offset: point (y, x) where unit (0, 0) looks, in pixels.
    """

    stride: tuple[float, float]
    offset: tuple[float, float]

    def draw(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw maps (B, C, h, w) at (H, W) pixels: every unit where it looks, linear between them, constant outside.

        Plain upsampling instead divides the image into h x w cells and draws every unit in the middle of its cell.
        """
        return self._apply(_interpolation, maps, (maps.shape[2], maps.shape[3]), size)

    def pool(self, maps: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Average maps (B, C, H, W) over the cell of every unit of a grid (h, w).

        The cell of a unit is as wide as the stride and centered where the unit looks; pixel y covers
        ``[y - 1/2, y + 1/2)``. Parts of a cell outside the image do not count; a cell fully outside takes the nearest
        pixel. For patches side by side this is plain average pooling. Differentiable; every weight row sums to 1.
        """
        return self._apply(_averaging, maps, grid_size, (maps.shape[2], maps.shape[3]))

    def _apply(self, weigh: Weigh, maps: Tensor, units: tuple[int, int], pixels: tuple[int, int]) -> Tensor:
        """Rows @ maps @ columns^T in the precision of the maps, also under autocast."""
        axes = zip(self.stride, self.offset, units, pixels, strict=True)
        rows, columns = (_weights(weigh, *axis, maps.dtype, maps.device) for axis in axes)
        with torch.autocast(maps.device.type, enabled=False):
            return rows @ maps @ columns.T


def _averaging(stride: float, offset: float, units: int, pixels: int) -> Tensor:
    """Weights (units, pixels): the share of every cell that each pixel covers; each row sums to 1."""
    centers = offset + stride * torch.arange(units, dtype=torch.float64).unsqueeze(1)
    pixel = torch.arange(pixels)
    cover = torch.minimum(centers + stride / 2, pixel + 0.5) - torch.maximum(centers - stride / 2, pixel - 0.5)
    nearest = (pixel == centers.round().clamp(0, pixels - 1)).to(centers.dtype)
    weights = torch.where((cover > 0).any(1, keepdim=True), cover.clamp(min=0), nearest)
    return weights / weights.sum(1, keepdim=True)


def _interpolation(stride: float, offset: float, units: int, pixels: int) -> Tensor:
    """Weights (pixels, units) of linear interpolation; each row sums to 1."""
    positions = (torch.arange(pixels, dtype=torch.float64) - offset) / stride
    distances = positions.clamp(0, units - 1).unsqueeze(1) - torch.arange(units)
    return (1 - distances.abs()).clamp(min=0)


@lru_cache(maxsize=KEPT)
def _weights(
    weigh: Weigh, stride: float, offset: float, units: int, pixels: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The weights of one axis, kept where the maps are: bringing them there for every batch waits for the device."""
    with torch.inference_mode(False):  # made in inference mode they could not serve autograd later
        return weigh(stride, offset, units, pixels).to(device, dtype)


def receptive_field(model: Callable[..., Any], layer: nn.Module, images: Tensor, *others: Any) -> ReceptiveField:
    """Measure where the units of a layer look.

    The model runs on an image of about 160 pixels, and of about 608 where a unit looks further, with uniform weights
    in place of its own, averages in place of maxima, no nonlinearities, and without what mixes all positions
    (attention, global pooling). The gradient of a unit is then symmetric about the point it looks at. A layer that
    runs several times is measured in its last run. The sides of that image leave the same remainder of 32 as those of
    ``images``, since TensorFlow's "same" padding, and with it the offset, depends on whether a side is even at every
    stride.

    Args:
        model: the model, which takes images (B, C, H, W): a module, or a function that runs one.
        layer: one of the model's modules, with output (B, C, h, w) or tokens (B, N, D).
        images: images (B, C, H, W); their values do not matter.
        others: further arguments of the model, for one image; maps of the images' size are enlarged with the image.

    Strides and offsets are rounded to halves of a pixel (to eighths for a stride below 1). The result is cached for as
    long as the model and the layer exist.

    Raises:
        ValueError: the layer has no single receptive field: it does not run, its output is no map or a single unit, its
            units look everywhere alike or at irregular places, the model resizes its images, or the model accepts only
            images of one size and its units look too far to be measured at that size.

    Example:
        >>> convolution = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
        >>> receptive_field(torch.nn.Sequential(convolution), convolution, torch.rand(1, 3, 32, 32))
        ReceptiveField(stride=(4.0, 4.0), offset=(1.5, 1.5))
    """
    # What wraps a model does not change where its units look.
    model = unwrap(model) if isinstance(model, nn.Module) else model
    known = _KNOWN.setdefault(model, WeakKeyDictionary()).setdefault(module_of(layer), {})
    size = (images.shape[2], images.shape[3])
    if size not in known:
        exact = torch.autocast(images.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), exact, eval_mode(model):
            try:
                known[size] = _probe(model, layer, images[:1], others)
            except UnmeasurableError as error:
                known[size] = error.with_traceback(None)
    found = known[size]
    if isinstance(found, UnmeasurableError):
        raise found
    return found


class UnmeasurableError(ValueError):
    """The layer has no single receptive field.

    Attributes:
        is_told: whether somebody was told, since the error is kept and raised again.
    """

    is_told = False


_Fields = dict[tuple[int, int], ReceptiveField | UnmeasurableError]
_KNOWN: WeakKeyDictionary[Callable[..., Any], WeakKeyDictionary[nn.Module, _Fields]] = WeakKeyDictionary()


def _probe(model: Callable[..., Any], layer: nn.Module, image: Tensor, others: tuple[Any, ...]) -> ReceptiveField:
    units, leaf = _run(model, layer, image, others)
    with suppress(Exception):  # units look further, or the model is built for one size: the larger image tells
        return _measure_small(model, layer, image, others, units)
    try:
        roomy = _run_on_side(ROOMY, model, layer, image, others)
        field = _measure(*roomy, complete=False)
    except UnmeasurableError:
        raise
    except Exception:  # a model built for one size may raise any error
        return _measure(units, leaf, complete=True)
    for axis in (0, 1):
        first, stride = field.offset[axis], field.stride[axis]
        last, pixels = first + stride * (units.shape[axis] - 1), leaf.shape[2 + axis]
        padded = max(0.0, -first)  # padding that lets the map grow lets units look as far beyond either border
        inside = last <= pixels - 1 + stride + padded and abs(first + last - pixels + 1) / 2 <= 2 * stride
        rule = f"look at the image with the stride that it has at {roomy[1].shape[2 + axis]} pixels, {stride}"
        _demand(inside, rule, f"{units.shape[axis]} units for {pixels} pixels")
    return field


def _measure_small(
    model: Callable[..., Any], layer: nn.Module, image: Tensor, others: tuple[Any, ...], own: Tensor
) -> ReceptiveField:
    """Measure on a small image, if all that a unit sees fits into it, and there are as many more units as pixels."""
    units, leaf = _run_on_side(SMALL, model, layer, image, others)
    _demand(min(units.shape) >= PLACES, "have more units", tuple(units.shape))
    field = _measure(units, leaf, complete=True)
    for axis in (0, 1):
        more, pixels = units.shape[axis] - own.shape[axis], leaf.shape[2 + axis] - image.shape[2 + axis]
        _demand(abs(more - pixels / field.stride[axis]) < 0.5, "not resize its images", more)
    return field


def _run_on_side(
    side: int, model: Callable[..., Any], layer: nn.Module, image: Tensor, others: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    """Run the layer on an image of about this side, padded as the image is."""
    sides = [side + length % PERIOD for length in image.shape[2:]]
    larger = image.new_empty(1, image.shape[1], *sides)
    return _run(model, layer, larger, tuple(_enlarged(o, image, sides) for o in others))


def _enlarged(value: Any, image: Tensor, sides: list[int]) -> Any:
    is_map = isinstance(value, Tensor) and value.ndim == 4 and value.shape[2:] == image.shape[2:]
    return F.interpolate(value.float(), sides).to(value.dtype) if is_map else value


def _demand(condition: bool, rule: str, got: object) -> None:
    if not condition:
        raise UnmeasurableError(f"`layer` must {rule}, but got {describe(got)}.")


def _run(model: Callable[..., Any], layer: nn.Module, like: Tensor, others: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Return the layer's output (h, w), averaged over channels, and the image (1, C, H, W) it was computed from."""
    leaf = torch.ones_like(like, requires_grad=True)
    outputs = run_plainly(model, layer, leaf, *others)
    require(bool(outputs), "layer", "run in the model's forward pass", layer)
    features, rule = outputs[-1], "output a feature map or tokens (B, N, D)"
    require(isinstance(features, Tensor) and features.ndim in (3, 4), "layer", rule, features)
    if features.ndim == 4 and is_channels_last(features, leaf):
        features = features.movedim(3, 1)
    return to_grid(features, (leaf.shape[2], leaf.shape[3]))[0].mean(0), leaf


def _measure(units: Tensor, leaf: Tensor, *, complete: bool) -> ReceptiveField:
    """Fit stride and offset to units on the diagonal; ``complete``: the image border may not cut off any of them."""
    _demand(min(units.shape) > 1, "have at least two units along each axis", tuple(units.shape))
    # Two pairs of units: where upsampling made several units from one, their mean place is right.
    steps = (-2, -1, 0, 1) if min(units.shape) >= PLACES else (-1, 0)
    middle = [n // 2 for n in units.shape]
    profiles = [_profiles(units[middle[0] + step, middle[1] + step], leaf) for step in steps]
    found = [_fit([p[axis] for p in profiles], [middle[axis] + s for s in steps], complete) for axis in (0, 1)]
    (stride_y, offset_y), (stride_x, offset_x) = found
    return ReceptiveField((stride_y, stride_x), (offset_y, offset_x))


def _profiles(unit: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
    """Return how strongly a unit looks at every row and at every column of the image."""
    rule = "have units that each look at a place of their own"
    _demand(unit.requires_grad, rule, "one without")
    strength = precise(plain_gradient(unit, leaf)[0]).sum(0)
    _demand(bool(strength.isfinite().all() and strength.sum() > 0), rule, "a unit that looks nowhere")
    return strength.sum(1), strength.sum(0)


def _fit(profiles: list[Tensor], places: list[int], complete: bool) -> tuple[float, float]:
    """Return stride and offset along one axis, from the profiles of the units at these places."""
    widths, pixels = {int(p.count_nonzero()) for p in profiles}, len(profiles[0])
    rule = f"look less far, or the model accept images of {ROOMY} pixels"
    _demand(not complete or (len(widths) == 1 and pixels not in widths), rule, f"units cut off at {pixels} pixels")
    centers, half = [_center(p) for p in profiles], len(places) // 2
    stride = _rounded((sum(centers[half:]) - sum(centers[:half])) / half**2)
    offset = sum(centers) / len(centers) - stride * sum(places) / len(places)
    off = max(abs(c - offset - stride * p) for c, p in zip(centers, places, strict=True))
    rule = "have units that look at places side by side"
    _demand(stride > 0 and off <= max(stride, 1) / 2, rule, f"units that look around pixels {centers}")
    return stride, _rounded(offset, stride)


def _rounded(value: float, stride: float | None = None) -> float:
    steps = 2 if abs(value if stride is None else stride) >= 0.75 else 8
    return round(steps * value) / steps


def _center(profile: Tensor) -> float:
    """Return the point about which a profile is symmetric, also where the border cuts it off."""
    pixels = torch.arange(len(profile), dtype=profile.dtype, device=profile.device)
    weights = profile
    for _ in range(20):  # take the mean within the largest window around the last mean that fits into the image
        center = float((weights * pixels).sum() / weights.sum())
        reach = min(center, len(pixels) - 1 - center) + EPSILON
        weights = profile * ((pixels - center).abs() <= reach)
    return center
