"""Where a model computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    """Return the device asked for; None = where the model is, for a function the CPU."""
    if device is not None:
        return torch.device(device)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


@contextmanager
def placed(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> Iterator[torch.device]:
    """Within the block a module is on the device, afterwards back where it was; a function stays what it is.

    Args:
        model: a module, or any function.
        device: where to compute; None = where the model is, for a function the CPU.

    Yields:
        The device.
    """
    before, place = pick_device(model, None), pick_device(model, device)
    if not isinstance(model, nn.Module) or place == before:
        yield place
        return
    try:
        yield (model.to(place), place)[1]
    finally:
        model.to(before)
