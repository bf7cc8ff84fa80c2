"""What a training learns from: images with the masks that its objective gets."""

from dataclasses import replace

import torch
from torch import Tensor

from sibx.datasets import MaskedDataset, OtherMasks, PackedMasks
from sibx.datasets.batches import load_batches
from sibx.datasets.several import present
from sibx.objectives import Given, SIBConfig
from sibx.train import TrainingSpec
from sibx.train.losses import Objective

AT_ONCE = 64  # images or masks that are in memory when all masks are read or compared


def lesson(
    spec: TrainingSpec, data: MaskedDataset, own: PackedMasks | None, seed: int, workers: int = 0
) -> tuple[MaskedDataset, Objective]:
    """Return the images with their masks, and the objective, which takes these masks as given.

    Masks that a network makes anew at every step are left to the objective, and so is shuffling them.

    Args:
        spec: the training, with its layers filled in.
        data: images with the masks of the data.
        own: the masks that the starting model made, where the training learns from them.
        seed: seed of the random order of shuffled masks.
        workers: number of processes that read the images, if their masks are shuffled.
    """
    objective = spec.objective
    if not spec.from_outside:
        return data, objective
    if spec.shuffled:
        order = shuffled_order(classes_of(data), seed)
        regions = regions_of(data, workers) if own is None else (own,)
        data = OtherMasks(data, *(region.reordered(order) for region in regions))
    elif own is not None:
        data = OtherMasks(data, own)
    return data, replace(objective, masks=Given()) if isinstance(objective, SIBConfig) else objective


def regions_of(data: MaskedDataset, workers: int = 0) -> tuple[PackedMasks, PackedMasks]:
    """All masks and their undefined pixels; the images are read through once."""
    batches = load_batches(data, AT_ONCE, workers)
    both = PackedMasks(torch.stack([b.masks, b.undefined], 1).flatten(0, 1) for b in batches)
    places = 2 * torch.arange(len(both) // 2)
    return both.reordered(places), both.reordered(places + 1)


def masks_of(data: MaskedDataset, workers: int = 0) -> PackedMasks:
    """All masks; the images are read through, unless the masks were put in their place."""
    if isinstance(data, OtherMasks):
        return data.masks
    return PackedMasks(batch.masks for batch in load_batches(data, AT_ONCE, workers))


def classes_of(data: MaskedDataset) -> Tensor:
    """The class of every mask, (N,) int64."""
    return torch.tensor([label for i in range(len(data)) for label in present(data.label_of(i))])


def precision(masked: MaskedDataset, truth: MaskedDataset, workers: int = 0) -> float:
    """Share of the masks' pixels in [0, 1] that lie on objects; undefined pixels do not count."""
    if masked is truth:
        return 1.0
    masks, (objects, undefined) = masks_of(masked, workers), regions_of(truth, workers)
    inside = total = 0
    for first in range(0, len(masks), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        counted = masks[rows] & ~undefined[rows]
        inside, total = inside + int((counted & objects[rows]).sum()), total + int(counted.sum())
    return inside / total if total else float("nan")


def shuffled_order(labels: Tensor, seed: int) -> Tensor:
    """A permutation that gives every image the mask of another one, of another class wherever classes are balanced.

    Images are put in random order within their class and the masks move on by half of the data set.
    """
    noise = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
    order = (labels.double() + noise).argsort()
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(len(order) // 2)
    return permutation
