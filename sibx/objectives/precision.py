"""Precision and grad mode of a loss that is computed from gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return a half-precision tensor in float32, and any other tensor as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def no_autocast(like: Tensor) -> torch.autocast:
    """Switch autocast off within the block, on the device of the tensor."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Record gradients within the block, whatever mode the caller is in, because R itself is a gradient."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
