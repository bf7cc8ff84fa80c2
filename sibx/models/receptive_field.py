"""Where the units of a layer look: the stride and offset that a feature map has on the image."""

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sibx._checks import require
from sibx.models.layers import eval_mode, to_grid

ROOMY = 608  # side of the probing image: receptive fields of the usual networks fit around its central unit
FAINT = 1e-6  # the probing image's value: all activations stay positive and far from where ReLU6 and the like saturate
OTHERWISE = "(use align='half_pixel' otherwise)"


class ReceptiveField(NamedTuple):
    """Unit (i, j) of a feature map looks around pixel ``offset + (i, j) * stride``; pixel (0, 0) is the first one.

    Attributes:
        stride: (y, x) in pixels per unit.
        offset: (y, x) in pixels.
    """

    stride: tuple[float, float]
    offset: tuple[float, float]

    def draw(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw maps (B, C, h, w) at (H, W) pixels: every unit where it looks, linear between, constant outside.

        Plain upsampling instead divides the image into h x w cells and draws every unit at the middle of its cell.
        """
        rows, columns = (self._interpolation(axis, maps.shape[2 + axis], size[axis]).to(maps) for axis in (0, 1))
        return rows @ maps @ columns.T

    def pool(self, maps: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Average maps (B, C, H, W) over the cell of every unit of a grid (h, w): what the unit should know of them.

        The cell of a unit is as wide as the stride and centered where the unit looks; pixel y covers
        ``[y - 1/2, y + 1/2)``. Parts of a cell outside the image do not count; a cell wholly outside takes the nearest
        pixel. For patches side by side this is plain average pooling. Differentiable; every weight row sums to 1.
        """
        rows, columns = (self._averaging(axis, grid_size[axis], maps.shape[2 + axis]).to(maps) for axis in (0, 1))
        return rows @ maps @ columns.T

    def _averaging(self, axis: int, units: int, pixels: int) -> Tensor:
        """Weights (units, pixels): the share of every cell that each pixel covers; each row sums to 1."""
        centers = self.offset[axis] + self.stride[axis] * torch.arange(units, dtype=torch.float64).unsqueeze(1)
        pixel = torch.arange(pixels)
        half = self.stride[axis] / 2
        cover = torch.minimum(centers + half, pixel + 0.5) - torch.maximum(centers - half, pixel - 0.5)
        nearest = (pixel == centers.round().clamp(0, pixels - 1)).double()
        weights = torch.where((cover > 0).any(1, keepdim=True), cover.clamp(min=0), nearest)
        return weights / weights.sum(1, keepdim=True)

    def _interpolation(self, axis: int, units: int, pixels: int) -> Tensor:
        """Weights (pixels, units) of linear interpolation; each row sums to 1."""
        positions = (torch.arange(pixels, dtype=torch.float64) - self.offset[axis]) / self.stride[axis]
        distances = positions.clamp(0, units - 1).unsqueeze(1) - torch.arange(units)
        return (1 - distances.abs()).clamp(min=0)


def receptive_field(model: nn.Module, layer: nn.Module, images: Tensor, *others: Any) -> ReceptiveField:
    """Measure where the units of a layer look.

    The model runs once on a plain image of 608 pixels, with uniform weights in place of its own, averages in place of
    maxima, and without what mixes all positions (attention, global pooling). The gradient of a unit is then symmetric
    about the point it looks at. Both numbers are multiples of half a pixel, to which they are rounded.

    Args:
        model: takes images (B, C, H, W).
        layer: one of its modules, with output (B, C, h, w) or tokens (B, N, D).
        images: (B, C, H, W); only their size counts, and that only for a model that accepts no other.
        others: further arguments of the model, for one image.

    The answer is kept as long as the layer lives.

    Raises:
        ValueError: the layer does not run, its output is no map, it has fewer than two units along an axis, or its
            units look everywhere alike.
    """
    known = _KNOWN.setdefault(layer, {})
    size = (images.shape[2], images.shape[3])
    if size not in known:
        exact = torch.autocast(images.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), exact:
            known[size] = _measure(*_probe(model, layer, images, others))
    return known[size]


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, int], ReceptiveField]] = WeakKeyDictionary()


class _Reached(Exception):  # noqa: N818  # not an error: the rest of the forward pass is not needed
    pass


def _probe(model: nn.Module, layer: nn.Module, images: Tensor, others: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    try:
        return _run(model, layer, images.new_empty(1, images.shape[1], ROOMY, ROOMY), others)
    except (RuntimeError, AssertionError, ValueError):  # whatever a model says that was built for one size
        return _run(model, layer, images[:1], others)


def _run(model: nn.Module, layer: nn.Module, like: Tensor, others: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The layer's output (h, w), averaged over channels, and the image (1, C, H, W) that it was computed from."""
    leaf = torch.full_like(like, FAINT, requires_grad=True)
    outputs: list[Tensor] = []

    def stop(_: nn.Module, __: object, output: Tensor) -> None:
        outputs.append(output)
        raise _Reached

    handle = layer.register_forward_hook(stop)
    try:
        with eval_mode(model), _Plain():
            model(leaf, *others)
    except _Reached:
        pass
    finally:
        handle.remove()
    require(bool(outputs), "layer", "run in the model's forward pass", layer)
    is_map = isinstance(outputs[0], Tensor) and outputs[0].ndim in (3, 4)
    require(is_map, "layer", "output a feature map (B, C, h, w) or tokens (B, N, D)", outputs[0])
    return to_grid(outputs[0], (leaf.shape[2], leaf.shape[3]))[0].mean(0), leaf


def _measure(units: Tensor, leaf: Tensor) -> ReceptiveField:
    found = []
    for axis in (0, 1):
        middle = [n // 2 for n in units.shape]
        before = [m - (a == axis) for a, m in enumerate(middle)]
        rule = f"have at least two units along each axis {OTHERWISE}"
        require(middle[axis] > 0, "layer", rule, tuple(units.shape))
        low, high = (_center(units[i, j], leaf, axis) for i, j in (before, middle))
        stride = round(2 * (high - low)) / 2
        found.append((stride, round(2 * (high - stride * middle[axis])) / 2))
    (stride_y, offset_y), (stride_x, offset_x) = found
    return ReceptiveField((stride_y, stride_x), (offset_y, offset_x))


def _center(unit: Tensor, leaf: Tensor, axis: int) -> float:
    """The point along an axis about which a unit's gradient is symmetric, also where the border cuts it off."""
    rule = f"have units that each look at a place of their own {OTHERWISE}"
    require(unit.requires_grad, "layer", rule, "one without")
    (gradient,) = torch.autograd.grad(unit, leaf, retain_graph=True)
    profile = gradient[0].double().sum((0, 2 - axis))
    pixels = torch.arange(len(profile), dtype=torch.float64, device=profile.device)
    weights = profile
    for _ in range(20):  # take the mean within a window about the last mean that fits into the image
        center = float((weights * pixels).sum() / weights.sum())
        reach = min(center, len(pixels) - 1 - center) + FAINT
        weights = profile * ((pixels - center).abs() <= reach)
    return center


class _Plain(TorchFunctionMode):
    """Within it, functions of images act on positions as they do, and on values as simply as possible."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        simple = _SIMPLE.get(getattr(func, "__name__", ""))
        return simple(func, *args, **kwargs or {}) if simple else func(*args, **kwargs or {})


def _convolve(
    func: Any,
    x: Tensor,
    weight: Tensor,
    bias: object = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: object = 1,
) -> Tensor:
    kernel = torch.full_like(weight[:1, :1], 1 / weight[0, 0].numel())
    one: Tensor = func(x.mean(1, keepdim=True), kernel, None, stride, padding, dilation)
    return one.repeat(1, len(weight), 1, 1)


def _average(
    _: Any,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    **__: object,
) -> Tensor:
    return F.avg_pool2d(x, kernel_size, stride or kernel_size, padding, ceil_mode)


def _mix_channels(_: Any, x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    return x.mean(-1, keepdim=True).repeat(*[1] * (x.ndim - 1), len(weight))


def _keep(_: Any, x: Tensor, *__: Any, **___: Any) -> Tensor:
    return x.clone()


def _cut(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Values as they are, without a gradient: such a function looks everywhere."""
    outputs = func(*args, **kwargs)
    if isinstance(outputs, tuple):
        return tuple(o.detach() if isinstance(o, Tensor) else o for o in outputs)
    return outputs.detach()


NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm")
GLOBAL = (
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "mean",
    "matmul",
    "bmm",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
)
_SIMPLE: dict[str, Callable[..., Any]] = {
    "conv2d": _convolve,
    "max_pool2d": _average,
    "linear": _mix_channels,
    **dict.fromkeys(NORMS, _keep),
    **dict.fromkeys(GLOBAL, _cut),
}
