"""The images of a data set with other masks; the images stay where they are."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.datasets.packed import PackedMasks
from sibx.datasets.several import present

ARGUMENTS = {"mask": "masks", "undefined": "undefined"}  # field of a sample -> what it is called here


class OtherMasks(MaskedDataset):
    """A data set with other masks, such as those of ``self_masks``; no image is read ahead.

    Args:
        source: the images.
        masks: masks (N, 1, H, W) bool or packed, one per image; with several labels one per image and class present,
            for which all labels are read.
        undefined: like masks, True where it is not known whether a pixel is object; None = no pixel is undefined.

    Raises:
        ValueError: another number of masks, or masks of another size; the same of undefined pixels.

    Example:
        >>> data = SyntheticDataset("train", 32, size=3)
        >>> int(OtherMasks(data, torch.ones(3, 1, 32, 32).bool())[2].mask.sum())
        1024
    """

    def __init__(
        self, source: MaskedDataset, masks: Tensor | PackedMasks, undefined: Tensor | PackedMasks | None = None
    ):
        self._describe_as(source)
        self.no_masks = ""
        self.source = source
        self.masks = _packed(masks)
        self._parts = {"mask": self.masks} | ({} if undefined is None else {"undefined": _packed(undefined)})
        counts = (len(present(source.label_of(i))) if self.several_labels else 1 for i in range(len(source)))
        self._ends = [0, *accumulate(counts)]
        rule = f"hold {self._ends[-1]} masks, one per image and class present"
        for field, part in self._parts.items():
            require(len(part) == self._ends[-1], ARGUMENTS[field], rule, len(part))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        sample = self.source[index]
        size = tuple(sample.image.shape[1:])
        for field, part in self._parts.items():
            require(part.size == size, ARGUMENTS[field], f"be of the images' size {size}", part.size)
        parts = self._parts_of(index)
        mask = parts["mask"]
        return sample._replace(mask=mask, undefined=parts.get("undefined", torch.zeros_like(mask)))

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample, as the source knows it."""
        return self.source.label_of(index)

    def group_of(self, index: int) -> int:
        """Return the group of a sample, as the source knows it."""
        return self.source.group_of(index)

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, with its other masks."""
        origin = {field: part for field, part in self.source.origin_of(index).items() if field != "undefined"}
        return {**origin, **self._parts_of(index)}

    def _parts_of(self, index: int) -> dict[str, Tensor]:
        """Return the masks (P, H, W) of a sample, and the same of undefined pixels where they are told, by field."""
        rows = slice(self._ends[index], self._ends[index + 1])
        return {field: part[rows].squeeze(1) for field, part in self._parts.items()}


def _packed(masks: Tensor | PackedMasks) -> PackedMasks:
    return masks if isinstance(masks, PackedMasks) else PackedMasks([masks])
