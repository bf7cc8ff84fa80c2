"""Finding layers, and reading what they output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, describe

POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d)


def resolve_layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    """Return the layer: a module as it is, a dotted name looked up, None = ``find_cam_layer(model)``."""
    if isinstance(layer, nn.Module):
        return layer
    name = find_cam_layer(model) if layer is None else layer
    modules = dict(model.named_modules())
    check_choice("layer", name, tuple(modules))
    return modules[name]


def find_cam_layer(model: nn.Module, image_size: int = 64) -> str:
    """Name the layer whose output is the last spatial feature map, after its last activation.

    The model is run once on zeros; the answer is the last module, in order of completion, that returns (1, C, h, w)
    with more than one position and is not a pooling layer. Running it makes the answer independent of how an
    architecture names its parts, and puts it behind the activation (or the residual sum) that closes the last block.

    Args:
        model: takes images (B, C, H, W); the channels are read from its first convolution.
        image_size: side of the probing image.

    Raises:
        ValueError: no such layer, or tokens (B, N, D) come after the last feature map (a ViT, say): name a layer then.
    """
    found = ""
    for name, module, shape in _probe(model, image_size):
        if len(shape) == 4 and shape[2] * shape[3] > 1 and not isinstance(module, POOLS):
            found = name
        elif len(shape) == 3 and shape[1] > 1:
            found = ""  # tokens: whatever grid came before is not what the head sees
    if not found:
        raise ValueError(
            f"`layer` must be given for {type(model).__name__}: after its last feature map (B, C, h, w) it works on "
            "tokens or vectors, so no layer can be chosen for it."
        )
    return found


def _probe(model: nn.Module, image_size: int) -> list[tuple[str, nn.Module, torch.Size]]:
    """Run the model on zeros in eval mode; list name, module and output shape in order of completion."""
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ValueError(f"`layer` must be given for {type(model).__name__}, which has no convolution.")
    trace: list[tuple[str, nn.Module, torch.Size]] = []

    def observe(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor):
                trace.append((name, module, output.shape))

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


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; afterwards every module is in the mode it was in."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def record(
    model: nn.Module,
    names: Mapping[str, nn.Module],
    rewrite: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Within the block, every forward pass leaves the output of the named layers in the yielded dict.

    Args:
        model: the model whose layers these are; only its forward passes count.
        names: key -> layer.
        rewrite: key -> function of that layer's output whose result the rest of the model sees instead.

    The rest of the model gets a copy, so that an in-place activation does not change what was recorded.
    """
    outputs: dict[str, Tensor] = {}

    def keep(key: str) -> Callable[[nn.Module, object, object], Tensor]:
        def hook(_: nn.Module, __: object, output: object) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != 4:
                got = describe(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
                raise ValueError(f"`layer` {key!r} must output a feature map (B, C, h, w), but got {got}.")
            outputs[key] = output
            return rewrite[key](output) if rewrite and key in rewrite else output.clone()

        return hook

    handles = [layer.register_forward_hook(keep(key)) for key, layer in names.items()]
    try:
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
