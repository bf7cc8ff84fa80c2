"""Several labels per image: as one sample per photograph, and as one sample per photograph and class."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.datasets.pictures import PictureDataset, Row


class SeveralLabels(MaskedDataset):
    """Photographs with all their labels: a data set of one row per photograph and class, put together.

    Of every class the label says whether it is there (1), is not (0), or may be (NaN: the source leaves it out, because
    it is too small or there only as a crowd). A photograph without any class is a sample, too.

    Args:
        source: data set of one row per photograph and class, such as ``voc2012`` and ``coco``.

    Raises:
        ValueError: a source with several labels already.
    """

    def __init__(self, source: PictureDataset):
        self._describe_as(source)
        require(not source.several_labels, "source", "have one label per row", source.name)
        self.several_labels = True
        self.source = source
        rows: dict[str, list[Row]] = {image: [] for image in source.unsure}
        for row in source.rows:
            rows.setdefault(row.image, []).append(row)
        self.photographs = {image: sorted(found, key=lambda row: row.label) for image, found in rows.items()}
        self._images = list(self.photographs)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        image = self._images[index]
        picture = self.source.read(image)
        parts = [self.source.masks_of(row, picture) for row in self.photographs[image]]
        nothing = torch.zeros(0, self.source.image_size, self.source.image_size, dtype=torch.bool)
        masks, undefined = (torch.cat(part) for part in zip((nothing, nothing), *parts, strict=True))
        return MaskedSample(
            image=self.source.fit(picture),
            mask=masks,
            label=self.label_of(index),
            id=image.rpartition(".")[0],
            group=-1,
            undefined=undefined,
        )

    def label_of(self, index: int) -> Tensor:
        """Return the labels (K,) of a photograph, which is not read."""
        image = self._images[index]
        label = torch.zeros(len(self.classes))
        label[sorted(self.source.unsure.get(image, ()))] = torch.nan
        label[[row.label for row in self.photographs[image]]] = 1
        return label

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the files of a photograph and of its masks, and its labels."""
        image, root = self._images[index], self.source.root
        masks = [root / row.mask for row in self.photographs[image]]
        return {"image": root / image, "mask": masks, "label": self.label_of(index), "id": image}


class OnePerClass(MaskedDataset):
    """A data set with several labels per image, as one sample per image and class present, with that class's mask.

    Evaluations see it so; the id of a sample is that of the image with the name of the class.

    Args:
        source: data set with several labels.

    Raises:
        ValueError: a source with one label per image.
    """

    def __init__(self, source: MaskedDataset):
        self._describe_as(source)
        require(source.several_labels, "source", "have several labels per image", source.name)
        self.several_labels = False
        self.source = source
        self.cases = [
            (index, place, label)
            for index in range(len(source))
            for place, label in enumerate(present(source.label_of(index)))
        ]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        image, place, label = self.cases[index]
        sample = self.source[image]
        return sample._replace(
            mask=sample.mask[place : place + 1],
            label=label,
            id=f"{sample.id}/{self.classes[label]}",
            undefined=sample.undefined[place : place + 1],
            photo=sample.photo or sample.id,
        )

    def label_of(self, index: int) -> int:
        """Return the class of a sample, which is not read."""
        return self.cases[index][2]

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of: all that its image is made of, and the class."""
        image, _, label = self.cases[index]
        origin = self.source.origin_of(image)
        return {**origin, "label": label, "id": f"{origin['id']}/{self.classes[label]}"}


def one_per_class(data: MaskedDataset) -> MaskedDataset:
    """Return the data set with one label per sample: as it is, or as ``OnePerClass``."""
    return OnePerClass(data) if data.several_labels else data


def present(label: int | Tensor) -> list[int]:
    """Return the classes that are there."""
    if not isinstance(label, Tensor):
        return [label]
    found: list[int] = (label == 1).nonzero().flatten().tolist()
    return found
