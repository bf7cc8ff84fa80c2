"""Grids of images of different classes, each cell of which is explained: the grid pointing game."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sibx._checks import check_integer, check_seed, require
from sibx.datasets.base import MaskedDataset, MaskedSample, check_dataset, stack_labels
from sibx.datasets.tiles import tile


class GridDataset(MaskedDataset):
    """N x N grids of images of N^2 different classes, and a sample for every cell, with the cell as its mask.

    ``foreground_focus`` of a sample is the localization score of the grid pointing game: the share of the heatmap for
    the class of the cell that lies in this cell. Chance is 1 / N^2, and a map that does not depend on the class scores
    just that on average over the cells of a grid, wherever it lies. So

        ``evaluate(model, GridDataset(data), methods=[...], metrics="foreground_focus", target="label")``

    makes the tables; the samples of a grid are one photograph for its intervals. Give it images that the model is sure
    of (``Part``): the score is of the explanations only where the model sees the classes.

    Args:
        source: the images, of one label each; the model has to take pictures of N times their height and width.
        side: number N of cells along a side, at least 2.
        count: number of grids; a larger count adds grids and does not change the first ones.
        seed: seed of the random draws: of the classes, of an image of each, and so of their places.
        apart: whether labels say cell and class (cell * K + class), for a model in ``CellsApart``.

    Raises:
        ValueError: a source with several labels or fewer than N^2 classes, ``side`` below 2, ``count`` below 1, no
            seed, or, when a grid is read, images of different shapes.

    Source: Boehle et al., arXiv 2104.00032 (500 grids of 3 x 3 images that the model classifies with the most
    confidence); with ``apart`` DiFull of Rao et al., arXiv 2205.10435.

    Example:
        >>> grids = GridDataset(build_dataset("synthetic", image_size=32, size=16), count=3)
        >>> len(grids), grids[0].image.shape, grids[0].mask.double().mean().item()
        (12, torch.Size([3, 64, 64]), 0.25)
    """

    def __init__(self, source: MaskedDataset, side: int = 2, count: int = 100, seed: int = 0, *, apart: bool = False):
        check_dataset(source, "source")
        check_integer("side", side, 2)
        check_integer("count", count, 1)
        check_seed("seed", seed)
        require(not source.several_labels, "source", "have one label per image", source.name)
        self._describe_as(source)
        self.no_masks = ""  # cells are masks, whatever the source has
        self.name = f"{source.name}-grid" + "-apart" * apart
        self.source, self.side, self.apart = source, side, apart
        labels = stack_labels([source.label_of(i) for i in range(len(source))])
        present, cells = labels.unique(), side**2
        require(len(present) >= cells, "source", f"hold images of at least {cells} classes", len(present))
        if apart:
            self.classes = tuple(f"{name} in cell {cell}" for cell in range(cells) for name in source.classes)
        self._labels = labels
        generator = torch.Generator().manual_seed(seed)
        self._grids = [_draw(labels, present, cells, generator) for _ in range(count)]

    def __len__(self) -> int:
        return len(self._grids) * self.side**2

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        grid, cell = divmod(index, self.side**2)
        parts = [self.source[i] for i in self._grids[grid]]
        masks = [torch.full_like(part.mask, i == cell) for i, part in enumerate(parts)]
        mask = tile(masks, self.side)
        photo = self._name(grid, [part.id for part in parts])
        return MaskedSample(
            image=tile([part.image for part in parts], self.side),
            mask=mask,
            label=self.label_of(index),
            id=f"{photo}/{cell}",
            group=-1,
            undefined=torch.zeros_like(mask),
            photo=photo,
        )

    def label_of(self, index: int) -> int:
        """Return the class of a cell, whose grid is not put together."""
        grid, cell = divmod(index, self.side**2)
        label = int(self._labels[self._grids[grid][cell]])
        return cell * len(self.source.classes) + label if self.apart else label

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return what the images of the grid are made of, and the class of the cell."""
        grid, cell = divmod(index, self.side**2)
        parts = [self.source.origin_of(i) for i in self._grids[grid]]
        name = f"{self._name(grid, [str(part['id']) for part in parts])}/{cell}"
        return {"image": parts, "label": self.label_of(index), "id": name}

    def _name(self, grid: int, ids: list[str]) -> str:
        return f"{grid:05d}:" + "+".join(ids)


def _draw(labels: Tensor, present: Tensor, cells: int, generator: torch.Generator) -> list[int]:
    """Return an image of each of so many classes, all different, in the order of the cells."""
    chosen = present[torch.randperm(len(present), generator=generator)[:cells]]
    candidates = [(labels == c).nonzero()[:, 0] for c in chosen]
    return [int(found[torch.randint(len(found), (), generator=generator)]) for found in candidates]
