"""The device on which a model computes."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sibx._checks import require


def pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    """Return the given device; None = the device of the model, or the CPU for a plain function.

    Raises:
        ValueError: a device that torch does not know or cannot compute on here, or a model that cannot be called or has
            no values.
    """
    require(callable(model), "model", "be a module, or a function of images", model)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    home = torch.device("cpu") if weights is None else weights.device
    require(home.type != "meta", "model", "have weights with values, on no meta device", type(model).__name__)
    return home if device is None else usable(device)


def named_device(name: str | None, number: int | None = None) -> torch.device:
    """Return the device of that name; None = a GPU if there is one, else the CPU.

    Args:
        name: what torch calls it, such as ``cpu`` or ``cuda:1``.
        number: place of this process among several, counted from 0; each gets a GPU of its own if there are enough.

    Raises:
        ValueError: a name that torch does not know, or a device that does not exist here.
    """
    available = torch.cuda.is_available()
    gpu = "cuda" if number is None or not available else f"cuda:{number % torch.cuda.device_count()}"
    return usable(name or (gpu if available else "cpu"))


def usable(device: torch.device | str) -> torch.device:
    """Return the device, if there is one of that name on which something can be computed.

    Raises:
        ValueError: there is none; ``meta`` is none either: a model that goes there loses its weights.
    """
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            torch.zeros(1, device=found).cpu()
    except Exception as error:  # every kind of device that is missing has an error of its own
        problem = re.split(r"\.\s|\n", str(error).strip())[0]  # torch goes on for pages
        raise ValueError(f"`device` must be a device of torch, but got {str(device)!r}: {problem}") from error
    if found.type == "cuda":  # what is asked here starts nothing on the GPU, so that processes can still be forked
        count = torch.cuda.device_count()
        require(torch.cuda.is_available(), "device", "be cpu where torch finds no GPU", str(device))
        require((found.index or 0) < count, "device", f"be one of the {count} GPUs, from cuda:0", str(device))
    return found


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
