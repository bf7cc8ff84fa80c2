"""Where a model computes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    """Return the device asked for; None = where the model is, for a function the CPU."""
    if device is not None:
        return torch.device(device)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device
