"""The layers of a network in the order in which they run, and drawing their parameters again at random."""

import zlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from sibx._checks import check_choice
from sibx._precise import precise
from sibx.models.differentiable import uncompiled
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap


def parameter_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the modules that hold parameters of their own, in the order in which they run, head last.

    A module that never runs itself (the output projection of an attention) takes the place of the closest module around
    it that runs; parameters of the whole model (class token, position embedding) come first. The model is run once, in
    eval mode, on the first image, so the order does not depend on how an architecture lists its parts.

    Args:
        model: the model, which takes images (B, C, H, W).
        images: images (B, C, H, W), at least one.
    """
    started: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, object], None]:
        def hook(*_: object) -> None:
            started.setdefault(name, len(started))

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in unwrap(model).named_modules()]
    try:
        with eval_mode(model), uncompiled(), torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return sorted(layers_inside(model, ""), key=lambda name: next(started[n] for n in _around(name) if n in started))


def layers_inside(model: nn.Module, layer: str) -> list[str]:
    """Return the names of the modules that hold parameters of their own, at and inside the named one.

    Args:
        model: the model.
        layer: dotted name of a module in the innermost model (see ``unwrap``); "" is the whole model.

    Raises:
        ValueError: a name that is not a module of the model.
    """
    modules = dict(unwrap(model).named_modules())
    check_choice("layers", layer, tuple(modules))
    holders = [name for name, module in modules.items() if any(True for _ in module.parameters(recurse=False))]
    return [name for name in holders if layer in _around(name)]


def redraw(model: nn.Module, layers: Iterable[str], seed: int = 0) -> None:
    """Draw the parameters that the named modules hold themselves again at random, in place.

    A module with ``reset_parameters`` starts anew from its own initialization (BatchNorm with its statistics); other
    parameters are drawn from a normal distribution with the mean and the standard deviation of their values. What a
    layer gets depends on the seed and on its name only. The global random state stays as it is.

    Args:
        model: the model, which is changed.
        layers: dotted names of the modules in the innermost model (see ``unwrap``).
        seed: seed of the random draws.
    """
    for layer in layers:
        module = unwrap(model).get_submodule(layer)
        devices = {p.device for p in module.parameters(recurse=False) if p.device.type == "cuda"}
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(zlib.crc32(f"{seed} {layer}".encode()))
            _redraw(module)


def _redraw(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        values = precise(parameter)
        parameter.copy_(torch.randn_like(parameter) * values.std(correction=0) + values.mean())


def _around(name: str) -> Iterator[str]:
    """Yield the name itself and the names of the modules around it, the model ("") last."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""
