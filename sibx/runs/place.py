"""Where a model computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sibx._checks import require


def pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    """Return the device asked for; None = where the model is, for a function the CPU."""
    if device is not None:
        return torch.device(device)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


def named_device(name: str | None) -> torch.device:
    """Return the device of that name; None = a GPU where there is one.

    Raises:
        ValueError: torch does not know it, or there is no GPU.
    """
    available = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if available else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"`device` must be a device of torch, but got {name!r}: {error}") from error
    require(available or device.type != "cuda", "device", "be cpu where torch finds no GPU", name)
    return device


@contextmanager
def placed(model: Callable[[Tensor], Tensor], device: torch.device | str) -> Iterator[None]:
    """Within the block a module is on the device; afterwards its parameters and buffers are where they were.

    Also after an exception, and where the parts of a module are on several devices. A function stays as it is.
    """
    homes = _homes(model) if isinstance(model, nn.Module) else []
    try:
        if isinstance(model, nn.Module):
            model.to(device)
        yield
    finally:
        for module, home in homes:
            module.to(home)


def _homes(model: nn.Module) -> list[tuple[nn.Module, torch.device]]:
    """The modules to move, and where to, so that all is where it is now.

    A module takes its children along; so outer ones come first, and those inside them follow with their own device.
    """
    own = ((module, (*module.parameters(recurse=False), *module.buffers(recurse=False))) for module in model.modules())
    homes = [(module, tensors[0].device) for module, tensors in own if tensors]
    return homes if len({home for _, home in homes}) > 1 else [(model, home) for _, home in homes[:1]]
