"""Several labels per image: one row for every image and class present, so that each class's mask is used."""

import torch
from torch import Tensor

from sibx._checks import require
from sibx.objectives.terms import Batch
from sibx.runs.ranks import world_size


def lay_out(batch: Batch, *, by_class: bool) -> Batch:
    """Return a batch with several labels per image in rows.

    Args:
        batch: images (B, C, H, W), labels (B, K), and a mask for each image and class present, in this order.
        by_class: whether there is one row for each image and class present, with its class as label and its mask; an
            image without any keeps a row with an empty mask. If not, every image has one row and the union of its
            masks, for what is asked of all classes at once.

    Raises:
        ValueError: another number of masks, or several processes, whose numbers of rows would differ.
    """
    require(world_size() == 1, "labels", "be of one class per image in several processes", batch.labels)
    truth = batch.labels
    owners, classes = (truth == 1).nonzero(as_tuple=True)
    masks = batch.masks
    if masks is not None:
        shape = (len(owners), 1, *batch.size)
        good = tuple(masks.shape) == shape and masks.dtype == torch.bool
        require(good, "masks", f"be a bool tensor of shape {shape}, one mask per image and class present", masks)
    if not by_class:
        no_class = torch.zeros_like(truth[:, 0], dtype=torch.int64)
        return batch._replace(labels=no_class, masks=_union(batch, owners), truth=truth)
    (empty,) = (~(truth == 1).any(1)).nonzero(as_tuple=True)
    order = torch.cat([owners, empty]).argsort(stable=True)
    owners, classes = torch.cat([owners, empty])[order], torch.cat([classes, torch.zeros_like(empty)])[order]
    if masks is not None or len(empty):
        there = batch.images.new_ones(len(order) - len(empty), 1, *batch.size, dtype=torch.bool)
        there = there if masks is None else masks
        masks = torch.cat([there, there.new_zeros(len(empty), *there.shape[1:])])[order]
    first = torch.cat([owners.new_ones(1), owners.diff()]).nonzero().squeeze(1)
    return Batch(batch.images[owners], classes, masks, truth=truth, first=first)


def _union(batch: Batch, owners: Tensor) -> Tensor | None:
    if batch.masks is None:
        return None
    counts = torch.zeros(len(batch.images), 1, *batch.size, dtype=torch.int32, device=batch.masks.device)
    return counts.index_add_(0, owners, batch.masks.int()) > 0
