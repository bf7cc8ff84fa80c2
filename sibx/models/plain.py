"""Plain versions of a network's functions: they move values between positions as before, but act linearly on them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode


class PlainFunctions(TorchFunctionMode):
    """Within this mode, torch's functions of feature maps are linear with uniform weights.

    Convolutions, linear layers and maxima become averages. Activations and normalizations do nothing. Global pooling,
    attention and other matrix products pass no gradient on. Functions that are not in PLAIN stay as they are.

    What the backward pass needs is kept, also where activation checkpointing would throw it away and compute it again:
    that happens after the block, by the functions that are not plain.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or its plain version if PLAIN has one under its name."""
        plain = PLAIN.get(getattr(func, "__name__", ""))
        with all_kept():
            return plain(func, *args, **kwargs or {}) if plain else func(*args, **kwargs or {})


def all_kept() -> saved_tensors_hooks:
    """Return a block within which autograd keeps what it needs itself, also where a model checkpoints activations."""
    return saved_tensors_hooks(Tensor.detach, _itself)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def plain_gradient(unit: Tensor, image: Tensor) -> Tensor:
    """Return the gradient, maybe of zeros, of a number that was computed by plain functions; the graph is kept."""
    (gradient,) = torch.autograd.grad(unit, image, retain_graph=True, materialize_grads=True)
    return gradient


CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
POOLING = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _bind(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args, strict=False)) | kwargs


def _convolve(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    bound = _bind(CONVOLUTION, args, kwargs) | {"bias": None, "groups": 1}
    weight, x = bound["weight"], bound["input"]
    kernel = torch.full_like(weight[:1, :1], 1 / weight[0, 0].numel())
    one: Tensor = func(**bound | {"input": x.mean(1, keepdim=True), "weight": kernel})
    return one.repeat_interleave(len(weight), 1)


def _convolve_transposed(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    bound = _bind(TRANSPOSED, args, kwargs)
    channels = bound["weight"].shape[1] * bound.get("groups", 1)
    weight, x = bound["weight"], bound["input"]
    kernel = torch.full_like(weight[:1, :1], 1 / weight[0, 0].numel())
    one: Tensor = func(**bound | {"bias": None, "groups": 1, "input": x.mean(1, keepdim=True), "weight": kernel})
    return one.repeat_interleave(channels, 1)


def _average(func: Any, *args: Any, **kwargs: Any) -> Any:
    bound = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False} | _bind(POOLING, args, kwargs)
    x, size, stride = bound["input"], bound["kernel_size"], bound["stride"] or bound["kernel_size"]
    if bound["dilation"] in (1, (1, 1), [1, 1]):
        average = F.avg_pool2d(x, size, stride, bound["padding"], bound["ceil_mode"])
    else:
        side = (size, size) if isinstance(size, int) else tuple(size)
        kernel = x.new_full((x.shape[1], 1, *side), 1 / (side[0] * side[1]))
        average = F.conv2d(x, kernel, None, stride, bound["padding"], bound["dilation"], x.shape[1])
    has_indices = bound.get("return_indices") or func.__name__ == "max_pool2d_with_indices"
    return (average, func(*args, **kwargs)[1]) if has_indices else average


def _mix_channels(_: Any, x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    return x.mean(-1, keepdim=True).repeat_interleave(len(weight), -1)


def _keep(_: Any, x: Tensor, *__: Any, **___: Any) -> Tensor:
    return x


def _copy(_: Any, x: Tensor, *__: Any, **___: Any) -> Tensor:
    return x.clone()


def _cut(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the outputs without a gradient, because such a function looks everywhere."""
    outputs = func(*args, **kwargs)
    if isinstance(outputs, tuple):
        return tuple(o.detach() if isinstance(o, Tensor) else o for o in outputs)
    return outputs.detach()


def _mean(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Cut the gradient of a mean over positions (several dimensions or all); keep it for one dimension (channels)."""
    dims = args[0] if args else kwargs.get("dim")
    mixes_values = isinstance(dims, int) or (dims is not None and len(dims) == 1)
    mean: Tensor = func(x, *args, **kwargs)
    return mean if mixes_values else mean.detach()


def _maximum(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Return a mean in place of a maximum over dimensions, whose place among equal values is chance."""
    highest = func(x, *args, **kwargs)
    bound = _bind(("dim", "keepdim"), args, kwargs)
    if not x.is_floating_point() or not isinstance(bound.get("dim"), int | tuple | list):
        return highest  # of all values, or the larger one of two tensors
    mean = _mean(torch.mean, x, bound["dim"], bound.get("keepdim", False))
    return mean if isinstance(highest, Tensor) else type(highest)((mean, highest.indices))


NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm")
ACTIVATIONS = (
    *("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "elu", "elu_"),
    *("celu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "threshold", "tanh", "clamp", "clamp_"),
)
GLOBAL = (
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "matmul", "__matmul__", "bmm", "einsum"),
    *("scaled_dot_product_attention", "multi_head_attention_forward"),
)
PLAIN: dict[str, Callable[..., Any]] = {
    "conv2d": _convolve,
    "conv_transpose2d": _convolve_transposed,
    "max_pool2d": _average,
    "max_pool2d_with_indices": _average,
    "linear": _mix_channels,
    "mean": _mean,
    **dict.fromkeys(("max", "amax"), _maximum),
    **dict.fromkeys(NORMS, _copy),
    **dict.fromkeys(ACTIVATIONS, _keep),
    **dict.fromkeys(GLOBAL, _cut),
}
