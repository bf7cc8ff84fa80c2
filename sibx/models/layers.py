"""Finding the layers of a model, and reading their outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, describe
from sibx.models.differentiable import uncompiled
from sibx.models.scored import unwrap

POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d)


def resolve_layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    """Return a layer of the model as a module.

    Args:
        model: the model.
        layer: a module, which is returned as it is; its dotted name in the innermost model (see ``unwrap``); or None =
            ``find_cam_layer(model)``.

    Raises:
        ValueError: a name that is not a module of the model.
    """
    if isinstance(layer, nn.Module):
        return layer
    name = find_cam_layer(model) if layer is None else layer
    modules = dict(unwrap(model).named_modules())
    check_choice("layer", name, tuple(modules))
    return modules[name]


def find_cam_layer(model: nn.Module, image_size: int | None = None) -> str:
    """Return the name of the layer whose output a CAM should be made of.

    For a convolutional network: the last spatial feature map, after its last activation. For a transformer on tokens:
    the normalization that feeds the last attention (behind it only the class token counts, and the gradients of the
    other tokens are zero). The model is run once on an image of zeros, and the layers are taken in the order in which
    they finish, so the result does not depend on how an architecture names its parts.

    Args:
        model: the model, which takes images (B, C, H, W); the channels are read from its first convolution.
        image_size: side of the probing image; None = the model's own ``image_size`` where it has one, else 64.

    Raises:
        ValueError: the model has no such layer; methods then need their ``layer`` argument.

    Example:
        >>> find_cam_layer(build_model("tiny_cnn", num_classes=5))
        'features'
    """
    model = unwrap(model)
    trace = _probe(model, image_size or getattr(model, "image_size", None) or 64)
    grids = [i for i, (_, m, shape) in enumerate(trace) if _is_grid(shape) and not isinstance(m, POOLS)]
    attentions = [i for i, (_, m, _) in enumerate(trace) if "attention" in type(m).__name__.lower()]
    tokens = [i for i, (_, m, shape) in enumerate(trace) if isinstance(m, nn.LayerNorm) and len(shape) == 3]
    last_tokens = [i for i in tokens if attentions and i < attentions[-1]]
    found = last_tokens or grids
    if not found:
        raise ValueError(
            f"`layer` must be given for {type(model).__name__}: it has no feature map (B, C, h, w) and no attention on "
            "normalized tokens (B, N, D), so no layer can be chosen for it."
        )
    return trace[found[-1]][0]


def _is_grid(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2] * shape[3] > 1


def _probe(model: nn.Module, image_size: int) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Run the model on zeros in eval mode; list name, module and output shape in order of completion.

    The shape is () for a module that returns something other than a tensor.
    """
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ValueError(f"`layer` must be given for {type(model).__name__}, which has no convolution.")
    trace: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def observe(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            trace.append((name, module, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    handles = [m.register_forward_hook(observe(name)) for name, m in model.named_modules() if name]
    zeros = convolution.weight.new_zeros(1, convolution.in_channels, image_size, image_size)
    try:
        with eval_mode(model), torch.no_grad():
            model(zeros)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def to_grid(features: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return features as a map (B, C, h, w): a map as it is, tokens (B, N, D) laid out in rows.

    Tokens in front of the patches (class, registers) are dropped: as many as needed, so that the rest fills a grid
    h x w in the proportions of the image.

    Args:
        features: features (B, C, h, w), or tokens (B, N, D).
        image_size: (H, W) of the image that the tokens come from.

    Raises:
        ValueError: no number of leading tokens up to 16 leaves such a grid.
    """
    if features.ndim == 4:
        return features
    height, width = image_size
    for extra in range(min(17, features.shape[1])):
        patches = features.shape[1] - extra
        h = round((patches * height / width) ** 0.5)
        if h and patches % h == 0 and h * width == patches // h * height:
            grid = features[:, extra:].unflatten(1, (h, patches // h))
            return grid.permute(0, 3, 1, 2)
    rule = f"output tokens that fill a grid of the image's proportions {image_size}"
    raise ValueError(f"`layer` must {rule}, but got {describe(features)}.")


@contextmanager
def eval_mode(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block a module is in eval mode; afterwards each of its parts is in the mode it was in before.

    A model that is a plain function has no mode and stays as it is.
    """
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def record(
    model: Callable[..., Any],
    names: Mapping[str, nn.Module],
    rewrite: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    *,
    tokens: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Within the block, every forward pass puts the outputs of the named layers into the yielded dict.

    Args:
        model: the model whose layers these are.
        names: the layers, by keys of your choice.
        rewrite: functions of a layer's output, by the layer's key; the rest of the model sees the result instead.
        tokens: whether to accept tokens (B, N, D) as well as feature maps (B, C, h, w).

    The rest of the model gets a copy, so that an in-place activation does not change what was recorded.
    """
    outputs: dict[str, Tensor] = {}
    wanted = "(B, C, h, w) or tokens (B, N, D)" if tokens else "(B, C, h, w)"

    def keep(key: str) -> Callable[[nn.Module, object, object], Tensor]:
        def hook(_: nn.Module, __: object, output: object) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim not in ((3, 4) if tokens else (4,)):
                got = describe(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
                raise ValueError(f"`layer` {key!r} must output a feature map {wanted}, but got {got}.")
            outputs[key] = output
            return rewrite[key](output) if rewrite and key in rewrite else output.clone()

        return hook

    handles = [layer.register_forward_hook(keep(key)) for key, layer in names.items()]
    try:
        with uncompiled():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen_batch_norm(model: object) -> Iterator[None]:
    """Within the block, forward passes in train mode leave BatchNorm's running statistics as they were."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    tracking = [
        m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats and m.training
    ]
    saved = [{k: v.clone() for k, v in m.named_buffers(recurse=False)} for m in tracking]
    try:
        yield
    finally:
        for module, buffers in zip(tracking, saved, strict=True):
            for name, buffer in buffers.items():
                getattr(module, name).copy_(buffer)
