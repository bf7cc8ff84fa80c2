"""A picture of any size as a network sees it, and the maps of the network back on the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_range, require
from sibx.images.geometry import central_square

Fit = Literal["whole", "pad", "crop", "own"]
LONGEST = 4  # a picture whose longer side is more than this many times the shorter one is padded, not seen whole


@dataclass(frozen=True, slots=True, eq=False)
class FittedPicture:
    """A picture as a network sees it, and the way back.

    Attributes:
        pixels: what the network sees, (C, h, w) in [0, 1].
        shown: the part of the picture that the network sees, at the picture's own size, (C, H, W).
        box: where this part lies in ``pixels``: top, left, height and width.
    """

    pixels: Tensor
    shown: Tensor
    box: tuple[int, int, int, int]

    def back(self, heatmaps: Tensor) -> Tensor:
        """Bring maps of what the network saw, (B, 1, h, w), to the size of ``shown``, (B, 1, H, W)."""
        require(
            heatmaps.shape[2:] == self.pixels.shape[1:], "heatmaps", "have the size of pixels", tuple(heatmaps.shape)
        )
        part = tv.crop(heatmaps, *self.box)
        size = [self.shown.shape[1], self.shown.shape[2]]
        return F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)


def fit_picture(
    pixels: Tensor, size: int, fit: Fit = "whole", fill: Sequence[float] = (0.485, 0.456, 0.406)
) -> FittedPicture:
    """Bring a picture of any size to one that a network takes.

    Args:
        pixels: the picture (C, H, W) in [0, 1].
        size: size in pixels that the network was trained with.
        fit: ``whole``: the whole picture with its proportions, the shorter side ``size`` pixels long; ``pad``: the
            whole picture in the middle of a square of ``size`` pixels, the rest filled; ``crop``: the central square
            alone; ``own``: as it is. A picture more than four times as long as wide is padded instead of seen whole.
        fill: color (C) of what is filled, in [0, 1]; the mean of the network's normalization says the least.

    Raises:
        ValueError: no picture, a size below 1, or an unknown way.

    Example:
        >>> seen = fit_picture(torch.rand(3, 300, 600), 224)
        >>> tuple(seen.pixels.shape), tuple(seen.back(torch.rand(1, 1, 224, 448)).shape)
        ((3, 224, 448), (1, 1, 300, 600))
    """
    check_choice("fit", fit, ("whole", "pad", "crop", "own"))
    check_range("size", size, 1)
    require(pixels.ndim == 3 and min(pixels.shape) > 0, "pixels", "have the shape (C, H, W)", tuple(pixels.shape))
    height, width = pixels.shape[1:]
    if fit == "crop":
        square = central_square(pixels)  # cut out first: exact, and a strip needs no memory
        return _fitted(_resized(square, size / square.shape[1]), square)
    if fit == "own":
        return _fitted(pixels, pixels)
    if fit == "pad" or max(height, width) > LONGEST * min(height, width):
        return _padded(pixels, size, fill)
    scale = size / min(height, width)
    return _fitted(_resized(pixels, scale), pixels)


def _fitted(pixels: Tensor, shown: Tensor) -> FittedPicture:
    height, width = pixels.shape[1:]
    return FittedPicture(pixels, _larger(shown, pixels), (0, 0, height, width))


def _padded(pixels: Tensor, size: int, fill: Sequence[float]) -> FittedPicture:
    part = _resized(pixels, size / max(pixels.shape[1:]))
    height, width = part.shape[1:]
    top, left = (size - height) // 2, (size - width) // 2
    square = torch.tensor(fill, dtype=part.dtype).view(-1, 1, 1).repeat(1, size, size)
    square[:, top : top + height, left : left + width] = part
    return FittedPicture(square, _larger(pixels, part), (top, left, height, width))


def _resized(pixels: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in pixels.shape[1:]]
    resized: Tensor = tv.resize(pixels, size, antialias=True)
    return resized


def _larger(picture: Tensor, seen: Tensor) -> Tensor:
    """Return the one with more pixels: maps of a small picture that was enlarged are not made coarser again."""
    return picture if picture.numel() >= seen.numel() else seen
