"""In which precision, and with which gradients, a loss on gradients is computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return a half-precision tensor in float32, any other as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def no_autocast(like: Tensor) -> torch.autocast:
    """Within the block nothing is cast down, on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Within the block gradients are recorded, whatever mode the caller is in: R itself is one."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
