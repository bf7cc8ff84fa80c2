"""Several labels per image: one row for every image and class present, so that each class's mask is used."""

import torch
from torch import Tensor

from sibx._checks import check_masks, require
from sibx.objectives.terms import Batch
from sibx.runs.ranks import world_size


def check_regions(images: Tensor, labels: Tensor, masks: Tensor | None, undefined: Tensor | None) -> None:
    """Require masks and undefined pixels that fit the images, with several labels one for each image and class present.

    Raises:
        ValueError: a wrong shape, number, dtype or device, or undefined pixels without masks.
    """
    rule = "be None without masks, which say what the other pixels are"
    require(masks is not None or undefined is None, "undefined", rule, undefined)
    for name, rows in (("masks", masks), ("undefined", undefined)):
        if rows is not None:
            check_masks(rows, images, name, None if labels.ndim == 1 else int((labels == 1).sum()))


def lay_out(batch: Batch, *, by_class: bool) -> Batch:
    """Return a batch with several labels per image in rows.

    Args:
        batch: images (B, C, H, W), labels (B, K), and a mask for each image and class present, in this order, with its
            undefined pixels, see ``check_regions``.
        by_class: whether there is one row for each image and class present, with its class as label and its mask; an
            image without any keeps a row with an empty mask. If not, every image has one row and the union of its
            masks, for what is asked of all classes at once.

    Raises:
        ValueError: several processes, whose numbers of rows would differ.
    """
    require(world_size() == 1, "labels", "be of one class per image in several processes", batch.labels)
    truth = batch.labels
    owners, classes = (truth == 1).nonzero(as_tuple=True)
    masks, undefined = batch.masks, batch.undefined
    if not by_class:
        no_class = torch.zeros_like(truth[:, 0], dtype=torch.int64)
        masks, undefined = (None if m is None else _union(batch, m, owners) for m in (masks, undefined))
        return Batch(batch.images, no_class, masks, truth=truth, undefined=undefined).told_apart()
    (empty,) = (~(truth == 1).any(1)).nonzero(as_tuple=True)
    order = torch.cat([owners, empty]).argsort(stable=True)
    owners, classes = torch.cat([owners, empty])[order], torch.cat([classes, torch.zeros_like(empty)])[order]
    nothing = batch.images.new_zeros(len(empty), 1, *batch.size, dtype=torch.bool)
    if masks is not None or len(empty):
        there = batch.images.new_ones(len(order) - len(empty), 1, *batch.size, dtype=torch.bool)
        masks = torch.cat([there if masks is None else masks, nothing])[order]
    undefined = None if undefined is None else torch.cat([undefined, nothing])[order]
    first = torch.cat([owners.new_ones(1), owners.diff()]).nonzero().squeeze(1)
    return Batch(batch.images[owners], classes, masks, truth=truth, first=first, undefined=undefined).told_apart()


def _union(batch: Batch, masks: Tensor, owners: Tensor) -> Tensor:
    counts = torch.zeros(len(batch.images), 1, *batch.size, dtype=torch.int32, device=masks.device)
    return counts.index_add_(0, owners, masks.int()) > 0
