"""The samples of some of a data set's classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample


class SomeClasses(MaskedDataset):
    """The samples of some classes of a data set with one label per image; labels count these classes.

    Args:
        source: the data set.
        classes: indices of the classes that stay, in order.

    Raises:
        ValueError: no sample is left.
    """

    def __init__(self, source: MaskedDataset, classes: Sequence[int]):
        self.source, self.kept = source, {label: place for place, label in enumerate(classes)}
        self.name, self.split, self.no_masks = source.name, source.split, source.no_masks
        self.classes, self.normalization = tuple(source.classes[label] for label in classes), source.normalization
        labels = {i: int(source.label_of(i)) for i in range(len(source))}
        self._labels = {i: self.kept[label] for i, label in labels.items() if label in self.kept}
        self._indices = list(self._labels)
        require(bool(self._indices), "classes", "have a sample", self.classes)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        return self.source[self._indices[index]]._replace(label=self.label_of(index))

    def label_of(self, index: int) -> int:
        """Return the class of a sample, which is not read."""
        return self._labels[self._indices[index]]

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, as the source knows it."""
        return {**self.source.origin_of(self._indices[index]), "label": self.label_of(index)}
