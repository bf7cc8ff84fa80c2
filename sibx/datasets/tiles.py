"""Several images laid out as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sibx._checks import require


def tile(parts: Sequence[Tensor], side: int) -> Tensor:
    """Put N^2 tensors (C, H, W) together, row by row, as (C, N H, N W).

    Args:
        parts: the tensors, of one shape.
        side: N.

    Raises:
        ValueError: tensors of different shapes, which are those of a source's images.
    """
    shapes = sorted({tuple(part.shape) for part in parts})
    require(len(shapes) == 1, "source", "hold images of one shape (`image_size` of sibx.wrap brings all to it)", shapes)
    return torch.cat([torch.cat(list(parts[i : i + side]), 2) for i in range(0, len(parts), side)], 1)
