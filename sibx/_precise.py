"""Double precision, on the devices that have it."""

import torch
from torch import Tensor

WITHOUT_FLOAT64 = frozenset({"mps"})  # types of devices whose tensors cannot be float64

FAR = 300  # exponent of two beyond which the square of a value, or a sum of them, may leave what float64 can hold


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device without it."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def within_range(rows: Tensor) -> Tensor:
    """Return rows (B, P), those of very large or small values times a power of two, so that sums of squares hold.

    For what does not depend on the scale of a row. In double precision only: there all of float32 is well within.
    """
    if rows.dtype != torch.float64 or not rows.numel():
        return rows
    exponents = torch.frexp(rows.abs().amax(1, keepdim=True)).exponent
    far = exponents.abs() > FAR
    return torch.where(far, rows.ldexp(-exponents.clamp(-1000, 1000)), rows) if far.any() else rows


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision, on its device; in float32 on a device without it."""
    return tensor.to(precise_dtype(tensor.device))
