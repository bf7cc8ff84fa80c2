"""Objects pasted on other pictures, as in Waterbirds: exact masks, and backgrounds that mislead as often as you set.

Source of the idea: Sagawa, Koh, Hashimoto and Liang, arXiv 1911.08731 (ICLR 2020), who put birds on places.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_integer, check_range, require
from sibx._seeds import image_seeds
from sibx.datasets.base import MaskedDataset, MaskedSample, check_dataset
from sibx.images.geometry import resize_and_center_crop
from sibx.images.reading import read_pixels

EPSILON = 1e-6  # smallest alpha: where an object's edge has less of it, its color does not matter


class _Place(NamedTuple):
    """What is drawn for a sample: the kind of background, which picture of it, and where the object goes.

    Attributes:
        kind: index of the kind.
        picture: which of the kind's pictures, in [0, 1).
        share: share of the canvas that the object covers.
        top: share of the free height that lies above the object, in [0, 1].
        left: share of the free width that lies left of the object, in [0, 1].
    """

    kind: int
    picture: float
    share: float
    top: float
    left: float


class CompositeDataset(MaskedDataset):
    """The objects of a data set, cut out by their masks and pasted on pictures of several kinds.

    With probability ``agreement`` an object's background is of its class's own kind (class c has kind c modulo the
    number of kinds), else of another kind, all equally likely. So 1 / (number of kinds) makes background and class
    independent, and 0 makes the background always wrong. The picture, the size and the place are drawn from the seed
    and the name of the object's image. An object that is partly undefined is pasted without its undefined pixels.

    Attributes of a sample: ``mask`` is exact, nothing is ``undefined``, ``group`` is
    ``(number of kinds) * label + kind``, ``id`` names the object's image, the kind and, from the second on, the copy.
    The normalization is that of the objects. All objects' first copies come first, then all second ones.

    Args:
        objects: images with masks; those without an object are left out, for which the set is read through once.
        backgrounds: the pictures of every kind, by its name: files, or tensors (C, H, W) of values in [0, 1]; the
            central part of the objects' proportions is used. Give each split pictures of its own.
        agreement: probability in [0, 1] that the background is of the class's own kind.
        scale: smallest and largest share of the canvas that an object covers, in (0, 1]; an object that would not fit
            is made as large as fits.
        copies: number of times that every object is pasted, at least 1, with draws of its own each time.
        split: name of the split; None = the split of the objects.
        seed: seed of the random draws.

    Raises:
        ValueError: no object, fewer than two kinds, a kind without a picture, or numbers out of range.

    Example:
        >>> shapes = SyntheticDataset("train", 32, size=16)
        >>> pictures = {"dark": [torch.zeros(3, 40, 60)], "bright": [torch.ones(3, 50, 32)]}
        >>> data = CompositeDataset(shapes, pictures, agreement=1.0)
        >>> len(data), data[0].image.shape, data[1].group
        (16, torch.Size([3, 32, 32]), 3)
    """

    def __init__(
        self,
        objects: MaskedDataset,
        backgrounds: Mapping[str, Sequence[Path | str | Tensor]],
        *,
        agreement: float = 0.95,
        scale: tuple[float, float] = (0.1, 0.3),
        copies: int = 1,
        split: str | None = None,
        seed: int = 0,
    ):
        check_dataset(objects, "objects")
        require(len(backgrounds) > 1, "backgrounds", "name at least two kinds", list(backgrounds))
        for kind, pictures in backgrounds.items():
            require(len(pictures) > 0, "backgrounds", "hold a picture of every kind", f"none of {kind!r}")
        check_range("agreement", agreement, 0, 1)
        require(0 < scale[0] <= scale[1] <= 1, "scale", "be two rising shares in (0, 1]", scale)
        check_integer("copies", copies, 1)
        self.name, self.split = f"{objects.name}-composite", objects.split if split is None else split
        self.classes, self.normalization = objects.classes, objects.normalization
        self.objects, self.kinds = objects, tuple(backgrounds)
        self.agreement, self.scale, self.copies, self.seed = agreement, scale, copies, seed
        self._pictures = [list(pictures) for pictures in backgrounds.values()]
        self._indices = [i for i in range(len(objects)) if _solid(objects[i]).any()]
        require(bool(self._indices), "objects", "hold an image with an object", len(objects))

    def __len__(self) -> int:
        return len(self._indices) * self.copies

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        copy, row = divmod(index, len(self._indices))
        sample = self.objects[self._indices[row]]
        place = self._draw(sample.id, int(sample.label), copy)
        size = (sample.image.shape[1], sample.image.shape[2])
        pixels, alpha = _fit(self.normalization.inverse(sample.image), _solid(sample), place.share)
        room = (length - covered for length, covered in zip(size, alpha.shape[1:], strict=True))
        top, left = (round(share * free) for share, free in zip(place[3:], room, strict=True))
        canvas = self._background(place, size, len(pixels)).clone()  # a picture of this size would be painted on itself
        mask = torch.zeros(1, *size, dtype=torch.bool)
        window = (slice(None), slice(top, top + alpha.shape[1]), slice(left, left + alpha.shape[2]))
        canvas[window] = canvas[window] * (1 - alpha) + pixels * alpha
        mask[window] = alpha >= 0.5
        return MaskedSample(
            image=self.normalization(canvas),
            mask=mask,
            label=sample.label,
            id=f"{sample.id}@{self.kinds[place.kind]}" + (f"-{copy}" if copy else ""),
            group=len(self.kinds) * int(sample.label) + place.kind,
            undefined=torch.zeros_like(mask),
            photo=sample.photo or sample.id,
        )

    def label_of(self, index: int) -> int:
        """Return the class of a sample, which is not put together."""
        return int(self.objects.label_of(self._indices[index % len(self._indices)]))

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what the object and its background are made of, and where the object goes."""
        copy, row = divmod(index, len(self._indices))
        origin = self.objects.origin_of(self._indices[row])
        place = self._draw(str(origin["id"]), self.label_of(index), copy)
        picture = self._picture(place)
        background = picture if isinstance(picture, Tensor) else Path(picture)
        return {**origin, "image": [origin["image"], background, *place], "id": [origin["id"], copy]}

    def _draw(self, name: str, label: int, copy: int) -> _Place:
        purpose = f"composite-{copy}" if copy else "composite"
        rng = np.random.default_rng(image_seeds([name], self.seed, purpose)[0])
        own, count = label % len(self.kinds), len(self.kinds)
        agrees, shift = rng.random() < self.agreement, int(rng.integers(1, count))
        kind = own if agrees else (own + shift) % count
        return _Place(kind, rng.random(), rng.uniform(*self.scale), rng.random(), rng.random())

    def _picture(self, place: _Place) -> Path | str | Tensor:
        pictures = self._pictures[place.kind]
        return pictures[int(place.picture * len(pictures))]

    def _background(self, place: _Place, size: tuple[int, int], channels: int) -> Tensor:
        chosen = self._picture(place)
        if isinstance(chosen, Tensor):
            return resize_and_center_crop(chosen, size)
        return resize_and_center_crop(read_pixels(chosen, channels=channels), size)


def _solid(sample: MaskedSample) -> Tensor:
    """The pixels (1, H, W) that are the object and nothing else."""
    return sample.mask & ~sample.undefined


def _fit(pixels: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Cut an object out and resize it to a share of the canvas: colors (C, h, w), and how much of them shows (1, h, w).

    Colors are averaged over the object's own pixels, so that nothing of its old background comes along.
    """
    rows, columns = mask[0].any(1).nonzero()[:, 0], mask[0].any(0).nonzero()[:, 0]
    window = (slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    solid = mask[window].to(pixels.dtype)
    height, width = solid.shape[1:]
    factor = min((share * mask.numel() / float(solid.sum())) ** 0.5, mask.shape[1] / height, mask.shape[2] / width)
    size = (max(1, round(factor * height)), max(1, round(factor * width)))
    both = torch.cat([pixels[window] * solid, solid]).unsqueeze(0)
    resized = F.interpolate(both, size, mode="bilinear", antialias=True)[0]
    alpha = resized[-1:].clamp(0, 1)
    return (resized[:-1] / alpha.clamp(min=EPSILON)).clamp(0, 1), alpha
