"""Images as a user's own data set has them: pictures, arrays, tensors or paths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sibx._checks import check_values, require
from sibx.images.normalization import IMAGENET, Normalization, Unchanged, are_pixels
from sibx.images.reading import Once, read_pixels, to_pixels

WHITE = {"uint8": 255, "uint16": 65535}  # types of whole numbers, and what is white in them
FEW = (1, 3, 4)  # numbers of channels by which a wrong order of the axes is recognized
KINDS = "be a picture, its path, a tensor (C, H, W) or an array (H, W, C)"


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Makes an image for a model out of whatever an item has.

    Attributes:
        normalization: how pixels become what the model sees.
        floats_are_done: whether floating-point images are what the model sees, not pixels.
    """

    normalization: Normalization
    floats_are_done: bool

    @property
    def channels(self) -> int | None:
        """Number of channels of the images; None = any."""
        return len(self.normalization.mean) or None

    def __call__(self, value: Any, warn: Once) -> Tensor:
        """Return an image (C, H, W) float32, normalized.

        Raises:
            ValueError: something that is no image, or not one of this kind.
        """
        image = _to_tensor(value, self.channels, warn)
        rule = f"have {self.channels} channels, those of the normalization"
        require(self.channels in (None, len(image)), "image", rule, image)
        check_values(image, "image")
        if is_floating(value):
            require(bool(image.isfinite().all()), "image", "hold finite values", "NaN or infinity")
            if self.floats_are_done:
                return image
            rule = "lie in [0, 1] to be normalized (images that are normalized already take `normalized=`)"
            require(are_pixels(image), "image", rule, f"{image.min():.3g} to {image.max():.3g}")
        return self.normalization(image)


def choose_reader(first: Any, normalization: Normalization | None, normalized: Normalization | None) -> ImageReader:
    """Return the reader of a data set, by its first image and by what the user says.

    Raises:
        ValueError: two normalizations, or none for pixels whose channels are not red, green and blue.
    """
    require(normalization is None or normalized is None, "normalization", "be None beside `normalized`", normalization)
    if normalized is not None:
        return ImageReader(normalized, floats_are_done=True)
    if normalization is not None:
        return ImageReader(normalization, floats_are_done=False)
    if is_floating(first):
        return ImageReader(Unchanged(), floats_are_done=True)
    channels = len(_to_tensor(first, None, Once()))
    require(channels == 3, "normalization", f"be given for pixels of {channels} channels", None)
    return ImageReader(IMAGENET, floats_are_done=False)


def is_floating(value: object) -> bool:
    """Whether an image is a tensor or an array of floating-point numbers."""
    if isinstance(value, np.ndarray):
        return bool(np.issubdtype(value.dtype, np.floating))
    return isinstance(value, Tensor) and value.is_floating_point()


def _to_tensor(value: Any, channels: int | None, warn: Once) -> Tensor:
    """Return (C, H, W) float32: pixels in [0, 1], or floating-point numbers as they are."""
    if isinstance(value, str | Path):
        return read_pixels(value, warn, channels or 3)
    if isinstance(value, Image.Image):
        return to_pixels(value, warn, channels or 3)
    if isinstance(value, np.ndarray):
        good = value.ndim == 3 and value.size > 0 and not _looks_turned(value.shape[2], value.shape[0])
        require(good, "image", "have the shape (H, W, C) as an array", value)
        value = torch.from_numpy(np.ascontiguousarray(_in_range(value).transpose(2, 0, 1)))
    require(isinstance(value, Tensor), "image", KINDS, value)
    good = value.ndim == 3 and value.numel() > 0 and not _looks_turned(value.shape[0], value.shape[2])
    require(good, "image", "have the shape (C, H, W) as a tensor", value)
    if value.is_floating_point():
        return value.detach().to(torch.float32)
    kind = str(value.dtype).removeprefix("torch.")
    require(kind in WHITE, "image", f"be of type {', '.join(WHITE)} or floating-point", value)
    return value.to(torch.float32) / WHITE[kind]


def _in_range(array: np.ndarray) -> np.ndarray:
    """Return an array with its values, in a byte order that torch knows."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _looks_turned(channels: int, other: int) -> bool:
    """Whether a number of channels is the length of a side, and the axis at the other end is that of the channels."""
    return channels > max(FEW) and other in FEW
