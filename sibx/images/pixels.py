"""What all functions that change pixels share: checks, and random numbers with one seed per image."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sibx._checks import check_images, check_range, require

Array = npt.NDArray[Any]


def check_unit_pixels(pixels: Tensor, seeds: Sequence[int] | None = None) -> None:
    """Require pixels (B, C, H, W) in [0, 1], and one seed per image if seeds are given."""
    check_images(pixels, "pixels")
    if pixels.numel():
        check_range("pixels", float(pixels.min()), 0, 1)
        check_range("pixels", float(pixels.max()), 0, 1)
    if seeds is not None:
        require(len(seeds) == len(pixels), "seeds", f"have {len(pixels)} entries, one per image", len(seeds))


def draw_rows(like: Tensor, seeds: Sequence[int], sample: Callable[..., Tensor]) -> Tensor:
    """Return random numbers of the shape of ``like``, every row from its own seed, the same on every device."""
    drawn = torch.empty(like.shape)
    for row, seed in zip(drawn, seeds, strict=True):
        row.copy_(sample(row.shape, generator=torch.Generator().manual_seed(seed)))
    return drawn.to(like)


def by_bands(picture: Array, change: Callable[[Array], Array]) -> Array:
    """Apply a function of colored or gray pictures to (H, W, C): to three channels together, else to each by itself.

    Args:
        picture: picture (H, W, C).
        change: function of pictures (H, W, 3) and (H, W), which returns one of the same shape.
    """
    if picture.shape[2] == 3:
        return change(picture)
    return np.stack([change(np.ascontiguousarray(band)) for band in np.moveaxis(picture, 2, 0)], axis=2)


def as_colors(pixels: Tensor) -> Tensor:
    """Return pixels of any number of channels as red, green and blue, (B, 3, H, W).

    One channel is gray, and two are the gray of their mean; of more than three bands the first three are the colors.
    """
    return pixels[:, :3] if pixels.shape[1] >= 3 else pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
