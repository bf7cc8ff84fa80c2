"""From pictures of any kind to pixels: upright, with all of a type's range, and nothing transparent."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import require

TURNS = {  # EXIF orientation -> what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SHORT = 65535  # white of a 16-bit picture
HOLDS_SHORT = ("PNG", "PPM")  # formats whose 16-bit pictures Pillow may give as 32-bit ones
LARGEST = 178_956_970  # pixels of a picture, Pillow's own limit, 4 GB while it is read: cameras of 150 million exist


class Once:
    """Gives one warning of every kind: the first file with a fault is named, the others are not."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, kind: str, message: str) -> None:
        """Warn, unless there was a warning of this kind."""
        if kind not in self._given:
            warnings.warn(message, stacklevel=2)
            self._given.add(kind)


def to_pixels(picture: Image.Image, warn: Once | None = None, channels: int = 3) -> Tensor:
    """Return a picture of any mode as values in [0, 1], (C, H, W) float32: red, green and blue, or gray.

    It is turned upright, as its EXIF orientation says. 16-bit values are divided by 65535, floating-point ones have to
    lie in [0, 1]. What is transparent is put on white, and of several pages or frames the first one is read, both with
    a warning.

    Args:
        picture: the picture, as Pillow opens it.
        warn: what keeps account of the warnings of several pictures; None = warn of this one.
        channels: 3 = colors, a gray picture three times; 1 = gray, of a colored picture its luma (ITU-R 601).

    Raises:
        ValueError: no picture of Pillow, or another number of channels, which no picture has.
        OSError: a picture that cannot be decoded, or whose values have no known range (32-bit integers, floating-point
            values outside [0, 1]), with the name of its file.

    Example:
        >>> from PIL import Image
        >>> to_pixels(Image.new("L", (4, 2), 255)).shape
        torch.Size([3, 2, 4])
    """
    rule = "be a picture of Pillow (PIL.Image.fromarray makes one of an array)"
    require(isinstance(picture, Image.Image), "picture", rule, picture)
    check_picture_channels(channels)
    colors: Tensor = tv.to_dtype(_to_colors(picture, warn or Once()), torch.float32, scale=True)
    return colors if channels == 3 else to_gray(colors)


def to_gray(colors: Tensor) -> Tensor:
    """Return colors (3, H, W) as gray values (1, H, W): what is gray already keeps its values."""
    if torch.equal(colors, colors[:1].expand_as(colors)):
        return colors[:1].clone()
    gray: Tensor = tv.rgb_to_grayscale(colors)
    return gray


def check_picture_channels(channels: int) -> None:
    """Require a number of channels that a picture can be read with."""
    require(channels in (1, 3), "normalization", "have 1 or 3 channels for pictures", channels)


def _to_colors(picture: Image.Image, warn: Once) -> Tensor:
    """Return colors (3, H, W), as bytes or as values in [0, 1]; what they are made from is let go of with the frame."""
    name = _name(picture)
    shown = upright(picture, warn)
    with naming(name):
        if shown.mode == "F" or shown.mode.startswith("I"):
            return torch.from_numpy(_scaled(shown, picture.format)).expand(3, -1, -1).clone()
        colors = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
    if colors.mode == "RGBA" and colors.getchannel("A").getextrema() != (255, 255):
        warn("transparent", f"Transparent parts of pictures are put on white, as in {name}.")
        colors = Image.alpha_composite(Image.new("RGBA", colors.size, "white"), colors)
    pixels: Tensor = tv.pil_to_tensor(colors.convert("RGB"))
    return pixels


def read_pixels(path: Path | str, warn: Once | None = None, channels: int = 3) -> Tensor:
    """Read a picture file as ``to_pixels`` does; whatever goes wrong is an OSError that names the file."""
    with naming(str(path)):
        picture = Image.open(path)
    with picture:
        return to_pixels(picture, warn, channels)


def read_upright(path: Path | str, warn: Once | None = None) -> Image.Image:
    """Read a picture file with the values that it has, turned upright; the errors are those of ``read_pixels``."""
    with naming(str(path)):
        picture = Image.open(path)
    with picture:
        return upright(picture, warn)


def upright(picture: Image.Image, warn: Once | None = None) -> Image.Image:
    """Decode a picture and turn it as its EXIF orientation says; the result knows the format of the file."""
    name = _name(picture)
    with naming(name):
        check_size(picture)
        # The second picture in a photograph of a phone (MPO) is a preview or a depth map.
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        picture.load()  # first, because it turns a TIFF itself, and EXIF may stand at the end of a PNG
        turn = TURNS.get(_orientation(picture))
        shown = picture.copy() if turn is None else picture.transpose(turn)
    warn = warn or Once()
    if pages > 1:
        warn("pages", f"Of pictures with several pages or frames the first one is read, as of {name} with {pages}.")
    shown.format = picture.format
    return shown


def check_size(picture: Image.Image) -> None:
    """Require a picture that is small enough to be read: its header, in a file of a few bytes, may claim any size.

    Pillow looks when it opens a file, but not at what only shows later, such as the picture in an icon.

    Raises:
        ValueError: a larger one, with the size that it claims.
    """
    if picture.width * picture.height > LARGEST:
        claimed = f"{picture.width} x {picture.height}"
        raise ValueError(f"its header claims {claimed} pixels, and at most {LARGEST:,} are read; make it smaller first")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the picture in an error: a damaged file may make Pillow raise any, most of them without the name."""
    try:
        yield
    except Exception as error:
        raise OSError(f"the picture {name} cannot be read: {error}") from error


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a picture with damaged EXIF data is still a picture
        return 1


def _name(picture: Image.Image) -> str:
    return str(getattr(picture, "filename", "") or "without a file")


def _scaled(picture: Image.Image, kind: str | None) -> np.ndarray:
    """Return values that do not fit into a byte in [0, 1], (H, W) float32."""
    values = np.asarray(picture)
    if picture.mode.startswith("I;16") or kind in HOLDS_SHORT:
        return (values / SHORT).astype(np.float32)
    low, high = values.min(), values.max()
    if picture.mode == "I":
        raise ValueError(f"32-bit integers from {low} to {high} have no known white; save it with 8 or 16 bits")
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(f"floating-point values must lie in [0, 1], but got {low:g} to {high:g}")
    return values.astype(np.float32)
