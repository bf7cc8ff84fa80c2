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


class OtherMasks(MaskedDataset):
    """A data set with other masks, such as those of ``self_masks``; no image is read ahead, and no pixel is undefined.

    Args:
        source: the images.
        masks: masks (N, 1, H, W) bool or packed, one per image; with several labels one per image and class present,
            for which all labels are read.

    Raises:
        ValueError: another number of masks, or masks of another size.

    Example:
        >>> data = SyntheticDataset("train", 32, size=3)
        >>> int(OtherMasks(data, torch.ones(3, 1, 32, 32).bool())[2].mask.sum())
        1024
    """

    def __init__(self, source: MaskedDataset, masks: Tensor | PackedMasks):
        self._describe_as(source)
        self.no_masks = ""
        self.source = source
        self.masks = masks if isinstance(masks, PackedMasks) else PackedMasks([masks])
        counts = (len(present(source.label_of(i))) if self.several_labels else 1 for i in range(len(source)))
        self._ends = [0, *accumulate(counts)]
        rule = f"hold {self._ends[-1]} masks, one per image and class present"
        require(len(self.masks) == self._ends[-1], "masks", rule, len(self.masks))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        sample = self.source[index]
        size = tuple(sample.image.shape[1:])
        require(self.masks.size == size, "masks", f"be of the images' size {size}", self.masks.size)
        mask = self._masks_of(index)
        return sample._replace(mask=mask, undefined=torch.zeros_like(mask))

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample, as the source knows it."""
        return self.source.label_of(index)

    def group_of(self, index: int) -> int:
        """Return the group of a sample, as the source knows it."""
        return self.source.group_of(index)

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, with its other masks."""
        origin = {**self.source.origin_of(index), "mask": self._masks_of(index)}
        return {field: part for field, part in origin.items() if field != "undefined"}

    def _masks_of(self, index: int) -> Tensor:
        """Return the masks (P, H, W) of a sample."""
        return self.masks[self._ends[index] : self._ends[index + 1]].squeeze(1)
