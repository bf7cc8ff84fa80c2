"""Shapes on textures as a data set of textures: the other task on the same images."""

from collections.abc import Mapping
from typing import Any

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.datasets.synthetic import TEXTURES, SyntheticDataset


class SceneDataset(MaskedDataset):
    """The images of a ``SyntheticDataset`` with the texture behind the object as the class, with or without the object.

    A network trained on it has no use for the object, whose mask stays: what its explanations show there is wrong.

    Args:
        source: the images; with ``rho=1 / 8`` shapes and textures know nothing of each other.
        shown: whether the objects are drawn; if not, the background goes on where they were, exactly.

    Raises:
        ValueError: a source of another kind, which has no textures to tell.

    Source: BAM's scenes, Yang and Kim, arXiv 1907.09701.

    Example:
        >>> data = SyntheticDataset("test-decorrelated", 32, size=4)
        >>> scenes, bare = SceneDataset(data), SceneDataset(data, shown=False)
        >>> changed = (scenes[1].image != bare[1].image).any(0)
        >>> bool((changed & ~data[1].mask[0]).any()), scenes.classes[scenes[0].label]
        (False, 'ihc')
    """

    def __init__(self, source: SyntheticDataset, *, shown: bool = True):
        good = isinstance(source, SyntheticDataset)
        require(good, "source", "be a SyntheticDataset (take a Part of the scenes, not scenes of a Part)", source)
        self._describe_as(source)
        self.name = "synthetic-scenes" if shown else "synthetic-scenes-bare"
        self.classes = tuple(TEXTURES)
        self.source, self.shown = source, shown

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MaskedSample:
        return self.source.redraw(index, shown=self.shown)._replace(label=self.label_of(index))

    def label_of(self, index: int) -> int:
        """Return the texture of a sample, which is not drawn."""
        return self.source.texture_of(index)

    def group_of(self, index: int) -> int:
        """Return the group of a sample, as the source knows it."""
        return self.source.group_of(index)

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return all that a sample depends on."""
        origin = self.source.origin_of(index)
        return {**origin, "image": [*origin["image"], "scene", self.shown], "label": self.label_of(index)}
