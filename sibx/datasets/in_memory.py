"""Samples of a data set in memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sibx._checks import check_masks, require
from sibx.datasets.base import MaskedDataset, MaskedSample, check_dataset, stack_labels


class InMemoryDataset(MaskedDataset):
    """Samples of a data set, decoded once and kept as tensors.

    Use it when a data set is read many times (epochs, methods), to take a subset, or to replace its masks.

    Args:
        source: data set whose name, split, classes and normalization are taken over.
        samples: the samples; their images have to have one shape.

    Raises:
        ValueError: images of different shapes.
    """

    _read: Sequence[MaskedSample] = ()  # as they came from the source
    _indices: Sequence[int] = ()  # which of the source's these are

    def __init__(self, source: MaskedDataset, samples: Iterable[MaskedSample]):
        self._describe_as(source)
        self.source = source
        self.samples = list(samples)
        self.no_masks = "" if any(bool(s.mask.any()) for s in self.samples) else source.no_masks
        self._check_samples()

    @classmethod
    def load(cls, source: MaskedDataset, indices: Iterable[int] | None = None) -> "InMemoryDataset":
        """Decode samples of a data set.

        Args:
            source: the data set.
            indices: which samples, in which order; None = all.
        """
        check_dataset(source, "source")
        chosen = range(len(source)) if indices is None else list(indices)
        loaded = cls(source, (source[i] for i in chosen))
        loaded._indices, loaded._read = chosen, list(loaded.samples)
        return loaded

    def with_masks(self, masks: Tensor) -> "InMemoryDataset":
        """Return the same images with other masks; in the result no pixel is undefined.

        Args:
            masks: masks (N, 1, H, W) bool, one per image; with several labels one per image and class present.

        Raises:
            ValueError: masks of another shape or dtype, or a data set without images.
        """
        require(len(self) > 0, "samples", "hold at least one image to have other masks", len(self))
        sizes = [len(s.mask) for s in self.samples]
        check_masks(masks, self.samples[0].image.expand(sum(sizes), -1, -1, -1))  # nothing is copied
        parts = zip(self.samples, masks.squeeze(1).split(sizes), strict=True)
        nothing = torch.zeros_like(masks[0])  # one for all: a copy for every image would be as large as the masks
        changed = InMemoryDataset(self, (s._replace(mask=m, undefined=nothing.expand_as(m)) for s, m in parts))
        changed.source, changed._indices, changed._read = self.source, self._indices, self._read
        return changed

    @property
    def labels(self) -> Tensor:
        """Class indices (N,) int64; of several labels (N, K) float32."""
        return stack_labels([s.label for s in self.samples])

    @property
    def groups(self) -> Tensor:
        """Group indices (N,) int64, -1 where the data set has no groups."""
        return torch.tensor([s.group for s in self.samples], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> MaskedSample:
        return self.samples[index]

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample."""
        return self.samples[index].label

    def group_of(self, index: int) -> int:
        """Return the group of a sample."""
        return self.samples[index].group

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, as the source knows it; fields that were replaced since, as they are."""
        own = super().origin_of(index)
        if index >= len(self._read):
            return own
        read = self._read[index]
        replaced = {field: part for field, part in own.items() if part is not getattr(read, field)}
        return {**self.source.origin_of(self._indices[index]), **replaced}

    def _check_samples(self) -> None:
        shapes = {tuple(s.image.shape) for s in self.samples}
        require(len(shapes) <= 1, "samples", "all have one image shape", sorted(shapes))
