"""The samples of a data set, normalized in another way."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from torch import Tensor

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.normalization import Normalization


class Renormalized(MaskedDataset):
    """The samples of a data set, normalized as another network saw its images; nothing is read ahead.

    Args:
        source: the data set, whose images can be turned back into pixels by its own normalization.
        normalization: from pixels in [0, 1] to what the model sees, with as many channels.

    Raises:
        ValueError: another number of channels, or, when a sample is read, images that nobody has told how they were
            normalized.

    Example:
        >>> data = SyntheticDataset("train", 32, size=3)
        >>> other = Renormalized(data, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
        >>> pixels = data.normalization.inverse(data[0].image)
        >>> torch.allclose(other[0].image, 2 * pixels - 1, atol=1e-6)
        True
    """

    def __init__(self, source: MaskedDataset, normalization: Normalization):
        self._describe_as(source)
        rule = "be a Normalization (mean and std of every channel)"
        require(isinstance(normalization, Normalization), "normalization", rule, type(normalization).__name__)
        channels, own = len(normalization.mean), len(source.normalization.mean)
        require(own in (0, channels), "normalization", f"have the {own} channels of the images", channels)
        self.source, self.normalization = source, normalization

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        sample = self.source[index]
        return sample._replace(image=self.normalization(self.source.normalization.inverse(sample.image)))

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample, as the source knows it."""
        return self.source.label_of(index)

    def group_of(self, index: int) -> int:
        """Return the group of a sample, as the source knows it."""
        return self.source.group_of(index)

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what a sample is made of, as the source knows it, and how it is normalized."""
        origin = self.source.origin_of(index)
        return {**origin, "image": [origin["image"], *astuple(self.normalization)]}
