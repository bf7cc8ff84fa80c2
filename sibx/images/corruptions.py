"""Common corruptions of images at five severities.

``sibx.evaluation.evaluate_robustness`` runs a model on them. They change pixels (B, C, H, W) in [0, 1].
"""

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sibx._checks import check_choice, check_range
from sibx.images.pixels import by_bands, check_unit_pixels, draw_rows

Array = npt.NDArray[np.float32]

# Parameters of ImageNet-C for severities 1 to 5 at 224 px.
SIDE = 224
NOISE_DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disc and sigma of its edge, pixels
CONTRAST_FACTOR = (0.4, 0.3, 0.2, 0.1, 0.05)
JPEG_QUALITY = (25, 18, 15, 10, 7)
SEVERITIES = tuple(range(1, 6))


def corrupt(pixels: Tensor, corruption: str, severity: int, seeds: Sequence[int]) -> Tensor:
    """Corrupt images as ImageNet-C does.

    ``gaussian_noise``: plus normal noise of standard deviation .08, .12, .18, .26, .38, clipped. ``defocus_blur``:
    convolved with a disc of radius 3, 4, 6, 8, 10 px, its edge softened, reflecting borders. ``contrast``: every
    channel's distance from its mean times .4, .3, .2, .1, .05. ``jpeg_compression``: written and read as JPEG of
    quality 25, 18, 15, 10, 7; three channels as colors, of other numbers every channel as a gray picture. At a side
    other than 224 px the disc is scaled in proportion, by area; nothing else changes.

    Args:
        pixels: images (B, C, H, W), floating point, in [0, 1].
        corruption: one of CORRUPTIONS.
        severity: how strong, 1 to 5.
        seeds: seeds of the noise, one per image.

    Returns:
        Corrupted pixels (B, C, H, W) in [0, 1].

    Raises:
        ValueError: a wrong shape or dtype, values out of range, or an unknown corruption.

    Source: Hendrycks & Dietterich, arXiv 1903.12261 (ICLR 2019): four of its fifteen corruptions, with the parameters
    of the authors' code. Departures: only JPEG rounds to 8 bits, and results are not stored as JPEG of quality 85.
    """
    check_unit_pixels(pixels, seeds)
    check_choice("corruption", corruption, CORRUPTIONS)
    check_range("severity", severity, SEVERITIES[0], SEVERITIES[-1])
    return _CORRUPT[corruption](pixels, severity - 1, seeds).clamp(0, 1)


def defocus_kernel(severity: int, side: int) -> Array:
    """Return ImageNet-C's disc (h, h), h odd, for images of this side.

    At 224 px it is the authors' disc: the pixels within the radius, smoothed. At other sides that disc is drawn at the
    other scale, and every pixel of the kernel gets the part of the disc that lies in it. Its sum is 1, except 1.011 at
    severity 5, where smoothing mirrors the disc at the border of the grid, as in the authors' images.
    """
    radius, edge = DEFOCUS[severity - 1]
    offsets = np.arange(-max(8, radius), max(8, radius) + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    window = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur(disc / disc.sum(), window, edge)
    shares = _overlaps(len(offsets), side / SIDE)
    return np.asarray(shares @ kernel @ shares.T, dtype=np.float32)


def _overlaps(count: int, scale: float) -> Array:
    """Return the share of each of ``count`` centered pixels, scaled by ``scale``, in each new pixel, (h, count)."""
    reach = int(np.ceil(count * scale / 2 - 0.5))
    new, old = np.arange(-reach, reach + 1)[:, None], (np.arange(count) - (count - 1) / 2) * scale
    inside = np.minimum(new + 0.5, old + scale / 2) - np.maximum(new - 0.5, old - scale / 2)
    return np.asarray(inside.clip(min=0) / scale, dtype=np.float32)


def _gaussian_noise(pixels: Tensor, level: int, seeds: Sequence[int]) -> Tensor:
    return pixels + NOISE_DEVIATION[level] * draw_rows(pixels, seeds, torch.randn)


def _defocus_blur(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    kernel = defocus_kernel(level + 1, max(pixels.shape[2:]))
    blur = partial(cv2.filter2D, ddepth=-1, kernel=kernel)
    return _picture_by_picture(pixels, lambda picture: by_bands(picture, blur))


def _contrast(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    mean = pixels.mean((2, 3), keepdim=True)
    return mean + CONTRAST_FACTOR[level] * (pixels - mean)


def _jpeg_compression(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    def compress(picture: Array) -> Array:
        file = BytesIO()
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY[level])
        return np.asarray(np.asarray(Image.open(file)) / 255, dtype=np.float32)

    return _picture_by_picture(pixels, lambda picture: by_bands(picture, compress))


_CORRUPT: dict[str, Callable[[Tensor, int, Sequence[int]], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "defocus_blur": _defocus_blur,
    "contrast": _contrast,
    "jpeg_compression": _jpeg_compression,
}
CORRUPTIONS = tuple(_CORRUPT)


def _picture_by_picture(pixels: Tensor, change: Callable[[Array], Array]) -> Tensor:
    """Apply a function of one picture (H, W, C) float32 to every image."""
    changed = torch.empty(pixels.shape)
    for row, image in zip(changed, pixels.detach(), strict=True):
        picture = change(image.permute(1, 2, 0).float().contiguous().cpu().numpy())
        row.copy_(torch.from_numpy(picture).permute(2, 0, 1))
    return changed.to(pixels)
