"""Labels and groups of a whole data set; one that does not know them without reading is read completely."""

import torch
from torch import Tensor

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, stack_labels
from sibx.datasets.batches import load_batches


def labels_of(data: MaskedDataset) -> Tensor:
    """Return all labels, (N,) int64, of several per image (N, K) float32.

    A data set that does not know them is read completely.
    """
    return stack_labels([data.label_of(i) for i in range(len(data))])


def classes_of(data: MaskedDataset) -> Tensor:
    """Return the class of every image, (N,) int64, to draw each equally often.

    Raises:
        ValueError: several labels per image, of which no class can be drawn equally often.
    """
    rule = "be False for several labels per image"
    require(not data.several_labels, "balanced", rule, True)
    return labels_of(data)


def groups_of(data: MaskedDataset, argument: str) -> Tensor:
    """Return the groups of all images, (N,) int64.

    Args:
        data: the data set.
        argument: what the caller calls it, for the error.

    Raises:
        ValueError: an image without a group.
    """
    groups = torch.tensor([data.group_of(i) for i in range(len(data))])
    rule = "say the group of every image"
    require(bool((groups >= 0).all()), argument, rule, f"{int((groups < 0).sum())} images of {data.name} without one")
    return groups


def count_masked(data: MaskedDataset, workers: int = 0) -> int:
    """Return how many images have an object pixel in a mask; the data set is read once.

    Args:
        data: the data set.
        workers: number of processes that read it.
    """
    return sum(int(batch.masks.any()) for batch in load_batches(data, 1, workers))
