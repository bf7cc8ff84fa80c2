"""What a training learns from: images with the masks that its objective gets."""

from dataclasses import replace

import torch
from torch import Tensor

from sibx.datasets import InMemoryDataset
from sibx.datasets.several import present
from sibx.objectives import Given, SIBConfig
from sibx.train import TrainingSpec
from sibx.train.losses import Objective


def lesson(
    spec: TrainingSpec, data: InMemoryDataset, own: Tensor | None, seed: int
) -> tuple[InMemoryDataset, Objective]:
    """Return the images with their masks, and the objective, which takes these masks as given.

    Masks that a network makes anew at every step are left to the objective, and so is shuffling them.

    Args:
        spec: the training, with its layers filled in.
        data: images with the masks of the data.
        own: (N, 1, H, W) bool, the masks that the starting model made, where the training learns from them.
        seed: seed of the random order of shuffled masks.
    """
    objective = spec.objective
    if not spec.from_outside:
        return data, objective
    masks = masks_of(data) if own is None else own
    if spec.shuffled:
        masks = masks[shuffled_order(classes_of(data), seed)]
    if spec.shuffled or own is not None:
        data = data.with_masks(masks)
    return data, replace(objective, masks=Given()) if isinstance(objective, SIBConfig) else objective


def masks_of(data: InMemoryDataset) -> Tensor:
    """All masks, (N, 1, H, W) bool, without a second copy of the images."""
    return torch.cat([sample.mask for sample in data.samples]).unsqueeze(1)


def classes_of(data: InMemoryDataset) -> Tensor:
    """The class of every mask, (N,) int64."""
    return torch.tensor([label for sample in data.samples for label in present(sample.label)])


def precision(masked: InMemoryDataset, truth: InMemoryDataset) -> float:
    """Share of the masks' pixels in [0, 1] that lie on objects."""
    masks, objects = masks_of(masked), masks_of(truth)
    return float((masks & objects).sum() / masks.sum())


def shuffled_order(labels: Tensor, seed: int) -> Tensor:
    """A permutation that gives every image the mask of another one, of another class wherever classes are balanced.

    Images are put in random order within their class and the masks move on by half of the data set.
    """
    noise = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
    order = (labels.double() + noise).argsort()
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(len(order) // 2)
    return permutation
