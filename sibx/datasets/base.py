"""What every data set gives: images with the mask of the labeled object."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sibx._checks import require
from sibx.images.normalization import Normalization, Unchanged


class MaskedSample(NamedTuple):
    """One image with its mask, or with several labels and a mask for each of them.

    Attributes:
        image: image (C, H, W) float32, normalized.
        mask: mask (1, H, W) bool, True on the object; all False where no mask is known. With several labels (P, H, W),
            one for each of the P classes that are there, in the order of classes.
        label: class index of the object; or (K,) float32, of every class whether it is there: 1, 0, or NaN = unknown.
        id: unique name of the image within its data set.
        group: index of a subpopulation (for example class x background), or -1 where the data set has no groups.
        undefined: like ``mask``, True where it is not known whether a pixel is object (trimap boundary, void). Scores
            leave such a pixel out; to an objective it is object if ``mask`` says so, otherwise neither object nor
            background.
        photo: name of the photograph where several samples show the same one, so that they are no independent evidence;
            "" = the sample has a photograph of its own.
    """

    image: Tensor
    mask: Tensor
    label: int | Tensor
    id: str
    group: int
    undefined: Tensor
    photo: str = ""


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """B samples: images (B, C, H, W) float32, masks and undefined (B, 1, H, W) bool, labels and groups (B,) int64.

    ``ids`` and ``photos`` name samples and photographs. With several labels ``labels`` are (B, K) float32, and there is
    one row of masks and undefined for each class present, in the order of images and classes: that of
    ``(labels == 1).nonzero()``.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    ids: list[str]
    groups: Tensor
    undefined: Tensor
    photos: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "MaskedBatch":
        """Return the batch with all tensors on the device."""
        moved = {k: getattr(self, k).to(device) for k in ("images", "masks", "labels", "groups", "undefined")}
        return replace(self, **moved)


def collate(samples: Sequence[MaskedSample]) -> MaskedBatch:
    """Stack samples into a batch; the ``collate_fn`` of a DataLoader over a MaskedDataset.

    Raises:
        ValueError: something that is no MaskedSample, or images of different shapes.
    """
    for sample in samples:
        rule = f"be MaskedSamples of {', '.join(MaskedSample._fields)} (sibx.wrap makes them)"
        require(isinstance(sample, MaskedSample), "samples", rule, type(sample).__name__)
    shapes = {tuple(sample.image.shape): sample.id for sample in samples}
    rule = "have images of one shape in a batch (`image_size` of sibx.wrap brings all to one size)"
    require(len(shapes) == 1, "samples", rule, {name: shape for shape, name in shapes.items()})
    images, masks, labels, ids, groups, undefined, photos = zip(*samples, strict=True)
    return MaskedBatch(
        images=torch.stack(images),
        masks=torch.cat(masks).unsqueeze(1),
        labels=stack_labels(labels),
        ids=list(ids),
        groups=torch.tensor(groups, dtype=torch.int64),
        undefined=torch.cat(undefined).unsqueeze(1),
        photos=[photo or name for photo, name in zip(photos, ids, strict=True)],
    )


def stack_labels(labels: Sequence[int | Tensor]) -> Tensor:
    """Return the labels of samples as (B,) int64, or (B, K) float32 where each is of several classes."""
    several = [label for label in labels if isinstance(label, Tensor)]
    return torch.stack(several) if several else torch.tensor(labels, dtype=torch.int64)


class MaskedDataset(Dataset[MaskedSample]):
    """A data set of MaskedSamples with a length, a name, a split, class names and a normalization.

    A subclass says ``name``, ``split`` and ``classes``, and the normalization of its images if there is one.
    ``several_labels`` says whether its labels are (K,); ``no_masks`` why no sample has a mask, which is "" where one
    has a mask, or may have one.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    normalization: Normalization = Unchanged()
    several_labels: bool = False
    no_masks: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> MaskedSample: ...

    def __repr__(self) -> str:
        return f"<{self.name}/{self.split}: {len(self)} samples of {len(self.classes)} classes>"

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample; a data set that knows it without reading the picture says so here."""
        return self[index].label

    def group_of(self, index: int) -> int:
        """Return the group of a sample, -1 without one; a data set that knows it without reading says so here."""
        return self[index].group

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, by its fields, ``label`` and ``id`` among them; a run goes on only with it.

        Files are paths, whose content counts; anything else is a tensor, an array or a plain value, also in lists and
        mappings. By default it is the sample itself; a data set that knows its files without reading them says so here.
        """
        return self[index]._asdict()

    def _describe_as(self, source: "MaskedDataset") -> None:
        """Take over what another data set says of itself."""
        check_dataset(source, "source")
        self.name, self.split = source.name, source.split
        self.classes, self.normalization = source.classes, source.normalization
        self.several_labels, self.no_masks = source.several_labels, source.no_masks

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0..{len(self) - 1} of {self.name}/{self.split}")


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


def check_dataset(data: object, argument: str) -> None:
    """Require a data set of sibx, which says of itself what a MaskedDataset has to say.

    Raises:
        ValueError: anything else; the error says how to make one of it.
    """
    kind = f"a {type(data).__module__}.{type(data).__qualname__}"
    if not isinstance(data, MaskedDataset):
        rule = "be a data set of sibx: sibx.wrap makes one of a data set of your own, sibx.datasets.Part a part of one"
        raise ValueError(f"`{argument}` must {rule}, but got {kind}.")
    missing = [name for name in ("name", "split", "classes") if not hasattr(data, name)]
    if missing:
        rule = "say its name, split and classes (a MaskedDataset of your own has them as attributes)"
        raise ValueError(f"`{argument}` must {rule}, but got {kind} without {', '.join(missing)}.")


def require_masks(data: MaskedDataset, argument: str, names: Sequence[str]) -> None:
    """Require a data set with masks, where the things of these names need them.

    Raises:
        ValueError: a data set of which it is known that no sample has a mask.
    """
    rule = f"need no masks for a data set without ({data.no_masks})"
    require(not (names and data.no_masks), argument, rule, list(names))


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
