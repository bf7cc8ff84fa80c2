"""Images with several labels, and a mask for each of them."""

import torch

from sibx.datasets import InMemoryDataset
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images import IMAGENET

NAN = torch.nan
LABELS = ([1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [NAN, 1, 1, 1], [1, 0, NAN, 0], [0, 1, 0, 1])


class Several(MaskedDataset):
    """Six images of noise with four labels; the mask of class k is a square in a corner of its own."""

    name, split, classes, normalization = "several", "test", ("a", "b", "c", "d"), IMAGENET
    several_labels = True

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        self._check_index(index)
        image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index))
        label = torch.tensor(LABELS[index])
        masks = corners()[label == 1]
        return MaskedSample(image, masks, label, f"image-{index}", -1, torch.zeros_like(masks))


def corners():
    """The mask of every class, (4, 32, 32)."""
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    for k, (y, x) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        masks[k, y : y + 12, x : x + 12] = True
    return masks


def several():
    return InMemoryDataset.load(Several())
