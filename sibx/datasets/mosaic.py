"""Mosaics of two images of one class and two of other classes: masks of a class that nobody had to draw."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_integer, check_seed, require
from sibx.datasets.base import MaskedDataset, MaskedSample, check_dataset, stack_labels
from sibx.datasets.tiles import tile


class _Mosaic(NamedTuple):
    """Indices of the images (top left, top right, bottom left, bottom right), and the class of two of them."""

    places: list[int]
    label: int


class MosaicDataset(MaskedDataset):
    """2 x 2 mosaics: two images of the target class, two of other classes, in random places.

    The classes that have two images are the target in turn. The four images of a mosaic are different; those of other
    classes are drawn from all images of all other classes with equal probability. The mask is True on the whole of the
    two quadrants of the target class: ``foreground_focus`` of a mosaic is the Focus score (``sibx.evaluation.focus``),
    and ``evaluate(model, MosaicDataset(data), ..., target="label")`` makes tables of it.

    Args:
        source: the images; the model has to take pictures of twice their height and width.
        count: number of mosaics; a larger count adds mosaics and does not change the first ones.
        seed: seed of the random draws.

    Raises:
        ValueError: a source without a class of two images or without two images of other classes, ``count`` below 1,
            no seed, or, when a mosaic is read, images of different shapes.

    Source: Arias-Duart et al., arXiv 2109.15035 (100 mosaics per class, of 448 x 448 pixels).
    """

    def __init__(self, source: MaskedDataset, count: int = 100, seed: int = 0):
        check_integer("count", count, 1)
        check_seed("seed", seed)
        check_dataset(source, "source")
        self.name, self.split = f"{source.name}-mosaic", source.split
        self.classes, self.normalization = source.classes, source.normalization
        self.source = source
        labels = stack_labels([source.label_of(i) for i in range(len(source))])
        targets = [int(c) for c in labels.unique() if 2 <= (labels == c).sum() <= len(labels) - 2]
        rule = "hold a class with two images and two images of other classes"
        require(bool(targets), "source", rule, labels.tolist())
        generator = torch.Generator().manual_seed(seed)
        self._mosaics = [_draw(labels, targets[i % len(targets)], generator) for i in range(count)]

    def __len__(self) -> int:
        return len(self._mosaics)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        mosaic = self._mosaics[index]
        parts = [self.source[i] for i in mosaic.places]
        images = [p.image for p in parts]
        masks = [torch.full_like(p.mask, bool(p.label == mosaic.label)) for p in parts]
        mask = tile(masks, 2)
        name = f"{index:05d}:" + "+".join(p.id for p in parts)
        return MaskedSample(
            image=tile(images, 2),
            mask=mask,
            label=mosaic.label,
            id=name,
            group=-1,
            undefined=torch.zeros_like(mask),
        )

    def label_of(self, index: int) -> int:
        """Return the target class of a mosaic, which is not put together."""
        return self._mosaics[index].label

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what the four images are made of, and the target class."""
        parts = [self.source.origin_of(i) for i in self._mosaics[index].places]
        name = f"{index:05d}:" + "+".join(str(part["id"]) for part in parts)
        return {"image": parts, "label": self.label_of(index), "id": name}


def _draw(labels: Tensor, label: int, generator: torch.Generator) -> _Mosaic:
    chosen: list[int] = []
    for candidates in ((labels == label).nonzero()[:, 0], (labels != label).nonzero()[:, 0]):
        chosen += candidates[torch.randperm(len(candidates), generator=generator)[:2]].tolist()
    return _Mosaic([chosen[i] for i in torch.randperm(4, generator=generator).tolist()], label)
