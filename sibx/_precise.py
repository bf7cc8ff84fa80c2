"""Double precision, on the devices that have it."""

import torch
from torch import Tensor

WITHOUT_FLOAT64 = frozenset({"mps"})  # types of devices whose tensors cannot be float64


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device without it."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision, on its device; in float32 on a device without it."""
    return tensor.to(precise_dtype(tensor.device))
