"""What all functions that change RGB pixels share: checks, and random numbers with one seed per image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sibx._checks import check_images, check_range, require


def check_rgb(pixels: Tensor) -> None:
    """Require pixels (B, 3, H, W), floating point."""
    check_images(pixels, "pixels")
    require(pixels.shape[1] == 3, "pixels", "have 3 channels", pixels)


def check_unit_rgb(pixels: Tensor, seeds: Sequence[int] | None = None) -> None:
    """Require pixels (B, 3, H, W) in [0, 1], and one seed per image if seeds are given."""
    check_rgb(pixels)
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
