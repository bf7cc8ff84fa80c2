"""Which pixels of a mask of the user's own are the object."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sibx.images.reading import Once, naming, read_upright

LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # formats that may put other values around an object than were drawn


def read_mask(path: Path, warn: Once) -> Tensor:
    """Return a mask file as (1, H, W) bool, True on the object, turned upright as EXIF says; see ``to_mask``."""
    return to_mask(read_upright(path, warn), str(path), warn)


def to_mask(picture: Image.Image, name: str, warn: Once) -> Tensor:
    """Return the mask that a picture shows, (1, H, W) bool, True on the object.

    The object is where alpha is above half of its largest value, if the picture has an alpha channel that varies; in a
    palette where the index is not 0; else where any color is not 0, and in a lossy format (JPEG, WebP, AVIF; with a
    warning) above half of the largest value.

    Args:
        picture: the picture, upright.
        name: what it is called in warnings and errors.
        warn: what keeps account of the warnings of several pictures.
    """
    cut_out = picture.mode in ("LA", "PA", "RGBA") and len(set(picture.getchannel("A").getextrema())) > 1
    lossy = picture.format in LOSSY and not cut_out
    with naming(name):
        values = np.abs(_values(picture.getchannel("A") if cut_out else picture))
    if lossy:
        warn("lossy", f"Masks in a lossy format are cut at half of their largest value, as {name}.")
    return torch.from_numpy(values > (values.max() / 2 if lossy or cut_out else 0)).unsqueeze(0)


def warn_of_doubt(mask: Tensor, name: Path | str, warn: Once) -> None:
    """Warn of a mask (1, H, W) that is full, or that looks inverted: the object lies on most of the border."""
    pixels, meaning = mask[0], "non-zero pixels are the object, in a palette those whose index is not 0"
    border = torch.cat([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]]).double().mean().item()
    if pixels.all():
        warn("full", f"Masks are full, as {name}: {meaning}.")
    elif border > 0.5:
        warn("inverted", f"Masks look inverted, as {name}, whose object is {border:.0%} of the border: {meaning}.")


def _values(picture: Image.Image) -> np.ndarray:
    """Return the largest value of a pixel, in a palette its index, (H, W) float64."""
    if picture.mode in ("LA", "PA"):
        picture = picture.getchannel(0)
    alone = picture.mode in ("1", "L", "P", "F") or picture.mode.startswith("I")
    values = np.asarray(picture if alone else picture.convert("RGB"), dtype=np.float64)
    return values if alone else values.max(2)
