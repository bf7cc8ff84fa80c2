"""Some of the samples of a data set, which stay where they are."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from sibx.datasets.base import MaskedDataset, MaskedSample


class Part(MaskedDataset):
    """Samples of a data set, in any order and number; nothing is read ahead.

    Args:
        source: data set whose name, split, classes and normalization are taken over.
        indices: which samples, in which order.

    Example:
        >>> data = SyntheticDataset("train", 32, size=3)
        >>> [sample.id for sample in Part(data, [2, 0])] == [data[2].id, data[0].id]
        True
    """

    def __init__(self, source: MaskedDataset, indices: Iterable[int]):
        self._describe_as(source)
        self.source, self.indices = source, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        return self.source[self.indices[index]]

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample, as the source knows it."""
        return self.source.label_of(self.indices[index])

    def group_of(self, index: int) -> int:
        """Return the group of a sample, as the source knows it."""
        return self.source.group_of(self.indices[index])

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, as the source knows it."""
        return self.source.origin_of(self.indices[index])
