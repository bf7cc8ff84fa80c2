"""What every data set gives: images with the mask of the labeled object."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sibx._checks import check_masks, require
from sibx.images.normalization import Normalization


class MaskedSample(NamedTuple):
    """One image with its mask.

    Attributes:
        image: image (C, H, W) float32, normalized.
        mask: mask (1, H, W) bool, True on the object; all False where no mask is known.
        label: class index of the object.
        id: unique name of the image within its data set.
        group: index of a subpopulation (for example class x background), or -1 where the data set has no groups.
        undefined: (1, H, W) bool, True where it is not known whether a pixel is object (trimap boundary, void).
    """

    image: Tensor
    mask: Tensor
    label: int
    id: str
    group: int
    undefined: Tensor


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """B samples: images (B, C, H, W) float32, masks and undefined (B, 1, H, W) bool, labels and groups (B,) int64."""

    images: Tensor
    masks: Tensor
    labels: Tensor
    ids: list[str]
    groups: Tensor
    undefined: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "MaskedBatch":
        """Return the batch with all tensors on the device."""
        moved = {k: getattr(self, k).to(device) for k in ("images", "masks", "labels", "groups", "undefined")}
        return replace(self, **moved)


def collate(samples: Sequence[MaskedSample]) -> MaskedBatch:
    """Stack samples into a batch; the ``collate_fn`` of a DataLoader over a MaskedDataset."""
    images, masks, labels, ids, groups, undefined = zip(*samples, strict=True)
    return MaskedBatch(
        images=torch.stack(images),
        masks=torch.stack(masks),
        labels=torch.tensor(labels, dtype=torch.int64),
        ids=list(ids),
        groups=torch.tensor(groups, dtype=torch.int64),
        undefined=torch.stack(undefined),
    )


class MaskedDataset(Dataset[MaskedSample]):
    """A data set of MaskedSamples with a length, a name, a split, class names and a normalization."""

    name: str
    split: str
    classes: tuple[str, ...]
    normalization: Normalization

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> MaskedSample: ...

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0..{len(self) - 1} of {self.name}/{self.split}")


class InMemoryDataset(MaskedDataset):
    """Samples of a data set, decoded once and kept as tensors.

    Use it when a data set is read many times (epochs, methods), to take a subset, or to replace its masks.

    Args:
        source: data set whose name, split, classes and normalization are taken over.
        samples: the samples; their images have to have one shape.

    Raises:
        ValueError: images of different shapes.
    """

    def __init__(self, source: MaskedDataset, samples: Iterable[MaskedSample]):
        self.name, self.split = source.name, source.split
        self.classes, self.normalization = source.classes, source.normalization
        self.samples = list(samples)
        self._check_samples()

    @classmethod
    def load(cls, source: MaskedDataset, indices: Iterable[int] | None = None) -> "InMemoryDataset":
        """Decode samples of a data set.

        Args:
            source: the data set.
            indices: which samples, in which order; None = all.
        """
        return cls(source, (source[i] for i in (range(len(source)) if indices is None else indices)))

    def with_masks(self, masks: Tensor) -> "InMemoryDataset":
        """Return the same images with other masks; in the result no pixel is undefined.

        Args:
            masks: masks (N, 1, H, W) bool, one per image.

        Raises:
            ValueError: masks of another shape or dtype, or a data set without images.
        """
        require(len(self) > 0, "samples", "hold at least one image to have other masks", len(self))
        check_masks(masks, self.samples[0].image.expand(len(self), -1, -1, -1))  # all have one shape; nothing is copied
        nothing = torch.zeros_like(masks[0])
        return InMemoryDataset(
            self, (s._replace(mask=m, undefined=nothing) for s, m in zip(self.samples, masks, strict=True))
        )

    @property
    def labels(self) -> Tensor:
        """Class indices (N,) int64."""
        return torch.tensor([s.label for s in self.samples], dtype=torch.int64)

    @property
    def groups(self) -> Tensor:
        """Group indices (N,) int64, -1 where the data set has no groups."""
        return torch.tensor([s.group for s in self.samples], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> MaskedSample:
        return self.samples[index]

    def _check_samples(self) -> None:
        shapes = {tuple(s.image.shape) for s in self.samples}
        require(len(shapes) <= 1, "samples", "all have one image shape", sorted(shapes))


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One line of the DATASETS table.

    Attributes:
        name: key in the table.
        title: name shown in tables and figures.
        build: function ``(root, split, image_size, **options) -> MaskedDataset``.
        splits: names of its splits.
        image_size: default side of the square images in pixels.
        masks: where the masks come from.
        reference: publication to cite.
        licence: license, or what the data may be used for.
    """

    name: str
    title: str
    build: Callable[..., MaskedDataset]
    splits: tuple[str, ...]
    image_size: int
    masks: str
    reference: str
    licence: str


def split_indices(split: str, total: int) -> list[int]:
    """Return the indices of a split, with ``val`` taken out of the training list of a data set without one.

    Args:
        split: ``train`` (four of every five entries), ``val`` (every fifth entry: in a list grouped by class the same
            share of each class) or ``test`` (all).
        total: length of the list that holds the split: the training list, or for ``test`` the test list.
    """
    everything = range(total)
    return {
        "train": [i for i in everything if i % 5 != 4],
        "val": [i for i in everything if i % 5 == 4],
        "test": list(everything),
    }[split]


def spread(total: int, count: int) -> list[int]:
    """Return ``count`` indices spread evenly over ``range(total)``, because files are often grouped by class."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
