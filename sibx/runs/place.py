"""The device on which a model computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sibx._checks import require


def pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    """Return the given device; None = the device of the model, or the CPU for a plain function."""
    if device is not None:
        return torch.device(device)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


def named_device(name: str | None, number: int | None = None) -> torch.device:
    """Return the device of that name; None = a GPU if there is one, else the CPU.

    Args:
        name: what torch calls it, such as ``cpu`` or ``cuda:1``.
        number: place of this process among several, counted from 0; each gets a GPU of its own if there are enough.

    Raises:
        ValueError: a name that torch does not know, or a GPU that does not exist.
    """
    available = torch.cuda.is_available()
    gpu = "cuda" if number is None or not available else f"cuda:{number % torch.cuda.device_count()}"
    try:
        device = torch.device(name or (gpu if available else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"`device` must be a device of torch, but got {name!r}: {error}") from error
    require(available or device.type != "cuda", "device", "be cpu where torch finds no GPU", name)
    return device


@contextmanager
def placed(model: Callable[[Tensor], Tensor], device: torch.device | str) -> Iterator[None]:
    """Within the block a module is on the device; afterwards its parameters and buffers are where they were before.

    This holds after an exception, too, and for a module whose parts are on several devices. A function stays as it is.
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
    """Return the modules to move, each with its device, so that all parts are back where they are now.

    Moving a module also moves its children. So outer modules come first, and inner ones follow with their own device.
    """
    own = ((module, (*module.parameters(recurse=False), *module.buffers(recurse=False))) for module in model.modules())
    homes = [(module, tensors[0].device) for module, tensors in own if tensors]
    return homes if len({home for _, home in homes}) > 1 else [(model, home) for _, home in homes[:1]]
