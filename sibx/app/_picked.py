"""The pictures of a workbench: samples of its data set, and files that visitors drop."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from sibx.datasets import MaskedDataset
from sibx.images.pixels import as_colors
from sibx.images.reading import naming, to_pixels

UNKNOWN = -1  # label of a picture whose class nobody knows
MOST_PIXELS = 50_000_000  # of a dropped picture, which takes 600 MB as numbers


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that can be explained.

    Attributes:
        name: what the page calls it.
        pixels: (C, H, W) in [0, 1].
        label: its class, -1 where it is unknown.
        mask: where the object is, (1, H, W) bool; all False where nobody knows.
        undefined: pixels of which it is not known whether they are object, (1, H, W) bool.
    """

    name: str
    pixels: Tensor
    label: int = UNKNOWN
    mask: Tensor | None = None
    undefined: Tensor | None = None


def picture_of(data: MaskedDataset, index: int) -> Picture:
    """Return a sample of a data set as a picture; one of several labels counts as unknown.

    Raises:
        OSError, ValueError: a sample that cannot be read.
    """
    sample = data[index]
    label = sample.label if isinstance(sample.label, int) else UNKNOWN
    pixels = data.normalization.inverse(sample.image).clamp(0, 1)
    single = sample.mask if len(sample.mask) == 1 else None
    return Picture(sample.id, pixels, label, single, sample.undefined if single is not None else None)


def read_dropped(path: str | Path) -> Picture:
    """Read a file that a visitor dropped, once its header says that it is a picture of a size that can be held.

    Raises:
        OSError: a file that is no picture, is broken, or has more than MOST_PIXELS pixels; its name is in the message.
    """
    name = Path(path).name
    try:
        with naming(name):
            picture = Image.open(path)
    except OSError as error:  # Pillow's own message names the server's folder
        raise OSError(f"{name} is no picture that can be read") from error
    with picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise OSError(f"the picture {name} has {width} x {height} pixels, more than {MOST_PIXELS:,}")
        picture.filename = name  # which errors name: the folder is the server's
        return Picture(name, to_pixels(picture))


def shown(pixels: Tensor) -> Tensor:
    """Return pixels (C, H, W) of any number of channels as red, green and blue bytes, (H, W, 3) uint8."""
    colors = as_colors(pixels[None])[0].clamp(0, 1)
    return (colors * 255).round().byte().permute(1, 2, 0).contiguous()
