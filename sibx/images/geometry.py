"""Geometry applied to an image and its masks together: resizing, cropping, augmentation."""

import math
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice

Augmentation = Literal["none", "flip", "flip_crop"]
MARGIN = 4  # lengths of the result in a strip that is resized: what is cut off does not reach the result's pixels


def resize_and_center_crop(pixels: Tensor, size: int | tuple[int, int], *, masks: bool = False) -> Tensor:
    """Bring (C, H, W) to (C, size, size): resize the shorter side to ``size``, then cut out the central square.

    A size (h, w) is one rectangle for all: the picture is resized until it covers it, and its middle is cut out.

    Images are resized bilinearly with antialiasing, masks by nearest neighbor, so that the geometry is the same. Of a
    strip only the middle is resized, so that the memory does not grow with its length.

    Args:
        pixels: an image or a mask (C, H, W).
        size: side of the result in pixels, or its height and width.
        masks: whether ``pixels`` is a mask.
    """
    mode = InterpolationMode.NEAREST_EXACT if masks else InterpolationMode.BILINEAR
    height, width = (size, size) if isinstance(size, int) else size
    pixels = _middle(pixels, height / width)
    resized = tv.resize(pixels, _covering(pixels, height, width), interpolation=mode, antialias=not masks)
    cropped: Tensor = tv.center_crop(resized, [height, width])
    return cropped


def _middle(pixels: Tensor, proportion: float) -> Tensor:
    """Cut what is far from the result off (C, H, W), in the same way on both sides.

    Args:
        pixels: an image or a mask.
        proportion: height of the result divided by its width.
    """
    height, width = pixels.shape[1:]
    kept = (_kept(height, proportion * width), _kept(width, height / proportion))
    cut: Tensor = tv.center_crop(pixels, list(kept)) if kept != (height, width) else pixels
    return cut


def _kept(side: int, shown: float) -> int:
    """Return how many pixels of a side stay: MARGIN times what is shown, and as even or odd as the side."""
    most = max(1, math.ceil(MARGIN * shown))
    return side if side <= most else most + (side - most) % 2


def _covering(pixels: Tensor, height: int, width: int) -> list[int]:
    """Return the size to which (C, H, W) is resized to cover a rectangle; of a square only the shorter side."""
    if height == width:
        return [height]
    factor = max(height / pixels.shape[1], width / pixels.shape[2])
    return [max(height, round(factor * pixels.shape[1])), max(width, round(factor * pixels.shape[2]))]


def central_square(pixels: Tensor) -> Tensor:
    """Cut the largest square out of the middle of (C, H, W): what ``resize_and_center_crop`` keeps, at full size."""
    side = min(pixels.shape[1:])
    square: Tensor = tv.center_crop(pixels, [side, side])
    return square


def stretch(pixels: Tensor, size: int, *, masks: bool = False) -> Tensor:
    """Bring (C, H, W) to (C, size, size), height and width scaled separately, so that nothing is cut off."""
    mode = InterpolationMode.NEAREST_EXACT if masks else InterpolationMode.BILINEAR
    resized: Tensor = tv.resize(pixels, [size, size], interpolation=mode, antialias=not masks)
    return resized


def augment(
    images: Tensor, masks: list[Tensor], mode: Augmentation, generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Flip (and crop) every image of a batch at random, and its masks in the same way.

    Args:
        images: images (B, C, H, W).
        masks: tensors of shape (B, 1, H, W), bool or float.
        mode: which augmentation: ``"none"``; ``"flip"`` = left-right with probability 1/2; ``"flip_crop"`` = also a
            random rectangle of the image's proportions, 60 to 100 % of its area, resized to the size before.
        generator: CPU generator of the random draws; the same state gives the same augmentation.

    Returns:
        Images and masks of unchanged shape and dtype.
    """
    return apply_augmentation(images, masks, mode, draw_augmentation(len(images), mode, generator))


def draw_augmentation(count: int, mode: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw random numbers for ``count`` images: (count, 4) in [0, 1) for flip, area, top and left; 0 where unused."""
    check_choice("mode", mode, ("none", "flip", "flip_crop"))
    draws = torch.zeros(count, 4)
    if mode != "none":
        draws[:, 0] = torch.rand(count, generator=generator)
    if mode == "flip_crop":
        draws[:, 1:] = torch.rand(count, 3, generator=generator)
    return draws


def apply_augmentation(
    images: Tensor, masks: list[Tensor], mode: Augmentation, draws: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Flip (and crop) a batch as drawn by ``draw_augmentation``, one row of (B, 4) per image; see ``augment``."""
    if mode == "none":
        return images, masks
    tensors = [_flip_rows(t, draws[:, 0] < 0.5) for t in (images, *masks)]
    if mode == "flip_crop":
        tensors = [_crop_rows(tensors[0], draws[:, 1:], masks=False)] + [
            _crop_rows(t, draws[:, 1:], masks=True) for t in tensors[1:]
        ]
    return tensors[0], tensors[1:]


def _flip_rows(tensor: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip.to(tensor.device).view(-1, 1, 1, 1), tensor.flip(-1), tensor)


def _crop_rows(tensor: Tensor, corners: Tensor, *, masks: bool) -> Tensor:
    mode = InterpolationMode.NEAREST_EXACT if masks else InterpolationMode.BILINEAR
    size = [tensor.shape[2], tensor.shape[3]]
    rows = []
    for row, (area, *corner) in zip(tensor, corners.tolist(), strict=True):
        sides = [round(length * (0.6 + 0.4 * area) ** 0.5) for length in size]
        starts = [round(at * (length - side)) for at, length, side in zip(corner, size, sides, strict=True)]
        rows.append(tv.resized_crop(row, *starts, *sides, size=size, interpolation=mode, antialias=not masks))
    return torch.stack(rows)
