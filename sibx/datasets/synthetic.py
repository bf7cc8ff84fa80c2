"""Shapes on real textures: a benchmark with exact masks and a background correlation that you set.

The class is the shape. In training the background texture agrees with the class with probability ``rho``, so a
network can learn the texture instead of the shape; the test splits show whether it did. Luminance does not tell object
from background: the object is brighter as often as darker, and the ranges of their contrasts overlap, so that
brightness alone does not point at the object. How much can still be found without a model is measured by the
``control_*`` methods, which every table shows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage import color, data, filters, io, transform

from sibx._checks import check_choice, check_integer, check_range, check_seed, require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.normalization import Normalization

Array = npt.NDArray[np.float32]

SPLITS = ("train", "val", "test-id", "test-decorrelated", "test-adversarial")
DEFAULT_SIZES = {
    "train": 4000,
    "val": 1000,
    "test-id": 1000,
    "test-decorrelated": 1000,
    "test-adversarial": 1000,
}

# Textures from the scikit-image wheel, with the factor that scales their grain for an image of 64 px.
TEXTURES = {
    "brick": 0.5,
    "grass": 0.5,
    "gravel": 0.5,
    "page": 0.65,
    "ihc": 0.5,
    "hubble_deep_field": 0.35,
    "coins": 0.55,
    "motorcycle_left": 0.4,
}
TRAIN_SHARE = 0.6  # train and val crop the left 60 % of every texture, the test splits the right 40 %
ROTATION = 0.35  # radians, either way
MEAN, STD = 0.5, 0.2  # mean and standard deviation of the normalization, the same for all channels
TINT = 0.06  # largest shift of one color channel, drawn for object and background alike
REACH = 1.75  # upper bound of the radius of any shape, in radii of the disc of equal area
EXTENT = 2.5  # half the side of the square that a stencil covers: the reach along the diagonal
STENCIL_SIDE = 640
_ANGLES = 720


@dataclass(frozen=True, slots=True)
class Design:
    """How hard the benchmark is. Values are drawn uniformly from ranges (low, high); lengths are in image sides.

    Attributes:
        gap: difference of mean luminance between object and background; its sign is random.
        object_contrast: standard deviation of the texture inside the object.
        background_contrast: standard deviation of the texture around the object.
        radius: radius of the disc that has the object's area.
        center: center of the object along each axis; near 0 and 1 the border cuts the object off.
        ramp: rise of the luminance across the whole image, in a random direction. If it is larger than ``gap``, no
            threshold of luminance tells object from background, only edges do.
    """

    gap: float = 0.2
    object_contrast: tuple[float, float] = (0.05, 0.12)
    background_contrast: tuple[float, float] = (0.04, 0.10)
    radius: tuple[float, float] = (0.24, 0.34)
    center: tuple[float, float] = (0.15, 0.85)
    ramp: float = 0.0


DESIGNS = {
    "standard": Design(),
    "centered": Design(center=(0.35, 0.65)),
    "faint": Design(gap=0.18, background_contrast=(0.06, 0.12), center=(0.35, 0.65)),
    "ramp": Design(radius=(0.20, 0.36), ramp=0.6),
}


def _polygon(sides: int, angle: Array) -> Array:
    """Return the radius of a regular polygon (apothem 1) in the direction of each angle."""
    sector = 2 * np.pi / sides
    return np.asarray(1 / np.cos((angle % sector) - sector / 2), dtype=np.float32)


def _plus(angle: Array) -> Array:
    along, across = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    long, short = np.maximum(along, across), np.minimum(along, across)
    return np.asarray(np.minimum(1 / long, np.maximum(0.38 / np.maximum(short, 1e-6), 0.38 / long)), dtype=np.float32)


def _star(angle: Array) -> Array:
    """Return the radius of a five-pointed star: straight edges between tips (radius 1) and notches (radius 0.42)."""
    half = np.pi / 5
    from_tip = np.abs((angle + half) % (2 * half) - half)
    notch = 0.42
    return np.asarray(notch * np.sin(half) / (notch * np.sin(half - from_tip) + np.sin(from_tip)), dtype=np.float32)


@cache
def shape_radii() -> dict[str, Array]:
    """Return every shape as its radius per angle, scaled to the area of the unit disc: all are equally large."""
    angle = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False, dtype=np.float32)
    radii = {
        "disc": np.ones_like(angle),
        "triangle": _polygon(3, angle + np.float32(np.pi / 6)),
        "square": _polygon(4, angle + np.float32(np.pi / 4)),
        "ellipse": 1 / np.sqrt(np.cos(angle) ** 2 / 4 + np.sin(angle) ** 2),
        "plus": _plus(angle),
        "star": _star(angle + np.float32(np.pi / 2)),
        "trefoil": 1 + 0.45 * np.cos(3 * angle + np.float32(np.pi / 2)),
        "diamond": 1 / (np.abs(np.cos(angle)) / 0.55 + np.abs(np.sin(angle))),
    }
    return {name: np.asarray(r / np.sqrt(np.mean(r**2)), dtype=np.float32) for name, r in radii.items()}


@cache
def load_textures(image_size: int) -> list[Array]:
    """Return gray textures for images of this side: locally flat luminance, unit standard deviation, clipped at 2.5."""
    folder = Path(data.__file__).parent
    textures = []
    for name, factor in TEXTURES.items():
        pixels = io.imread(next(folder.glob(f"{name}.*")))
        gray = color.rgb2gray(pixels) if pixels.ndim == 3 else pixels / 255.0
        gray = transform.rescale(gray, factor * image_size / 64, anti_aliasing=True)
        sigma = 12 * image_size / 64
        flat = gray - filters.gaussian(gray, sigma)
        flat /= np.sqrt(filters.gaussian(flat**2, sigma)) + 1e-3
        textures.append(np.clip(flat / flat.std(), -2.5, 2.5).astype(np.float32))
    return textures


@cache
def _stencils() -> list[npt.NDArray[np.bool_]]:
    """Return every shape drawn once on a fine square grid over [-EXTENT, EXTENT], where samples look it up."""
    axis = np.linspace(-EXTENT, EXTENT, STENCIL_SIDE, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    step = (np.arctan2(-y, x) * (_ANGLES / (2 * np.pi))).astype(np.int64)  # negative steps index from the end
    return [(np.hypot(y, x) < radius[step]).ravel() for radius in shape_radii().values()]


class SyntheticDataset(MaskedDataset):
    """Eight shapes on eight textures.

    Sample ``i`` of a split depends on ``seed``, the split and ``i`` only, never on the size of the split.

    Args:
        split: ``train``, ``val``, ``test-id`` (background agrees with the class with probability ``rho``),
            ``test-decorrelated`` (all backgrounds equally likely) or ``test-adversarial`` (never the class's own).
        image_size: side of the images in pixels.
        size: number of samples; None = 4000 for training, 1000 for the other splits.
        rho: probability in [0, 1] that the background is the class's own texture.
        seed: seed of the random draws; another seed changes all samples.
        design: key of DESIGNS. ``standard``; ``centered``: objects near the middle (easier); ``faint``: near the
            middle, with a smaller difference in luminance and a background of more contrast; ``ramp``: objects of
            varying size under a luminance ramp, where no contrast finds them without a model.

    The group of a sample is ``2 * label + (background is the class's own)``.

    Raises:
        ValueError: an unknown split or design, ``rho`` outside [0, 1], a non-positive size, or no seed.
    """

    name = "synthetic"
    normalization = Normalization(mean=(MEAN,) * 3, std=(STD,) * 3)

    def __init__(
        self,
        split: str = "train",
        image_size: int = 64,
        *,
        size: int | None = None,
        rho: float = 0.9,
        seed: int = 0,
        design: str = "standard",
    ):
        check_choice("split", split, SPLITS)
        check_choice("design", design, tuple(DESIGNS))
        check_integer("image_size", image_size, 16)
        check_range("rho", rho, 0, 1)
        check_seed("seed", seed)
        self.split, self.image_size, self.seed = split, image_size, seed
        self.size = DEFAULT_SIZES[split] if size is None else size
        check_range("size", self.size, 1)
        self.classes = tuple(shape_radii())
        self.design = DESIGNS[design]
        self.rho = {"test-decorrelated": 1 / len(self.classes), "test-adversarial": 0.0}.get(split, rho)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> MaskedSample:
        return self.redraw(index)

    def redraw(self, index: int, *, shown: bool = True, background: int | None = None) -> MaskedSample:
        """Return a sample with one thing changed and all else, to the pixel, as it is: an exact counterfactual.

        Args:
            index: which sample.
            shown: whether the object is drawn; if not, the background goes on where it was. The mask stays.
            background: index of the texture of the background, in the order of TEXTURES; None = the sample's own.

        Raises:
            ValueError: a background that is no index of TEXTURES.
        """
        self._check_index(index)
        if background is not None:
            check_integer("background", background, 0)
            rule = f"lie in 0..{len(TEXTURES) - 1}, the textures"
            require(background < len(TEXTURES), "background", rule, background)
        label, rng = self.label_of(index), self._generator(index)
        own = self._background(label, rng)
        background = own if background is None else background
        mask = self._mask(label, rng)
        drawn = mask if shown else np.zeros_like(mask)
        return MaskedSample(
            image=torch.from_numpy(self._image(background, drawn, rng)),
            mask=torch.from_numpy(mask)[None],
            label=label,
            id=self._id(index),
            group=2 * label + (background == label),
            undefined=torch.zeros(1, self.image_size, self.image_size, dtype=torch.bool),
        )

    def label_of(self, index: int) -> int:
        """Return the class of a sample, which is not drawn."""
        return index % len(self.classes)

    def texture_of(self, index: int) -> int:
        """Return the index of the texture behind the object, which is not drawn."""
        self._check_index(index)
        return self._background(self.label_of(index), self._generator(index))

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return all that a sample depends on."""
        drawn_by = [self.split, self.seed, index, self.image_size, self.rho, self.design]
        return {"image": drawn_by, "label": self.label_of(index), "id": self._id(index)}

    def _generator(self, index: int) -> np.random.Generator:
        """Return a counter-based generator: (seed, split) is the key and the index the counter."""
        key = np.array([int(self.seed) % 2**64, SPLITS.index(self.split)], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, index]))

    def _id(self, index: int) -> str:
        return f"{self.split}-{self.seed}-{index:06d}"

    def _background(self, label: int, rng: np.random.Generator) -> int:
        """Return a texture index: the class's own with probability rho, else one of the others."""
        agrees, shift = rng.random() < self.rho, int(rng.integers(1, len(self.classes)))
        return label if agrees else (label + shift) % len(self.classes)

    def _mask(self, label: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        radius, rotation = rng.uniform(*self.design.radius), rng.uniform(-ROTATION, ROTATION)
        center_y, center_x = rng.uniform(*self.design.center, size=2)
        mask = np.zeros((self.image_size, self.image_size), dtype=np.bool_)
        reach = REACH * radius
        rows, dy = self._span(center_y, reach)
        columns, dx = self._span(center_x, reach)
        # Rotate and scale the pixel centers into the stencil's frame; both maps are sums of a row and a column.
        scale = STENCIL_SIDE / (2 * EXTENT * radius)
        cos, sin = np.float32(scale * np.cos(rotation)), np.float32(scale * np.sin(rotation))
        middle = np.float32(STENCIL_SIDE / 2)
        along = ((dy * cos + middle)[:, None] + dx * sin).astype(np.int32)
        across = ((middle - dy * sin)[:, None] + dx * cos).astype(np.int32)
        mask[rows, columns] = _stencils()[label][along * STENCIL_SIDE + across]
        return mask

    def _span(self, center: float, reach: float) -> tuple[slice, Array]:
        """Return the pixels whose centers lie within reach of the center along one axis, and their offsets from it."""
        first = max(0, math.ceil((center - reach) * self.image_size - 0.5))
        last = min(self.image_size - 1, math.floor((center + reach) * self.image_size - 0.5))
        offsets = (np.arange(first, last + 1, dtype=np.float32) + np.float32(0.5)) / np.float32(self.image_size)
        return slice(first, last + 1), offsets - np.float32(center)

    def _image(self, background: int, mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """Return a normalized image (3, H, W): the object's texture inside the mask, the background's outside.

        Painting in normalized units saves one pass over the image.
        """
        gap = self.design.gap if rng.random() < 0.5 else -self.design.gap
        middle = rng.uniform(0.4, 0.6)
        inside = self._paint(int(rng.integers(len(TEXTURES))), middle + gap / 2, self.design.object_contrast, rng)
        around = self._paint(background, middle - gap / 2, self.design.background_contrast, rng)
        tint_inside, tint_around = (rng.uniform(-TINT, TINT, size=(2, 3, 1, 1)) / STD).astype(np.float32)
        pixels = around + tint_around
        np.copyto(pixels, inside + tint_inside, where=mask)
        if self.design.ramp:
            pixels += self._ramp(rng)
        return np.clip(pixels, (0 - MEAN) / STD, (1 - MEAN) / STD, out=pixels)

    def _ramp(self, rng: np.random.Generator) -> Array:
        """Return a plane of luminance (H, W), 0 in the middle, that rises in a random direction, normalized."""
        angle = rng.uniform(0, 2 * np.pi)
        along = (np.arange(self.image_size) + 0.5) / self.image_size - 0.5
        plane = np.cos(angle) * along[:, None] + np.sin(angle) * along
        return np.asarray(plane * (self.design.ramp / STD), dtype=np.float32)

    def _paint(self, index: int, luminance: float, contrast: tuple[float, float], rng: np.random.Generator) -> Array:
        """Return a gray crop (H, W) of one texture with this mean and a contrast from the range, normalized."""
        texture = load_textures(self.image_size)[index]
        height, width = texture.shape
        border = int(width * TRAIN_SHARE)
        low, high = (border, width) if self.split.startswith("test") else (0, border)
        top = int(rng.integers(height - self.image_size + 1))
        left = int(rng.integers(low, high - self.image_size + 1))
        crop = texture[top : top + self.image_size, left : left + self.image_size]
        return np.asarray(crop * np.float32(rng.uniform(*contrast) / STD) + np.float32((luminance - MEAN) / STD))
