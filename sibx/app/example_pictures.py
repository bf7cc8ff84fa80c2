"""Photographs that every installation has, for a workbench without a data set."""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from skimage import data

from sibx.datasets import MaskedDataset, MaskedSample
from sibx.images import IMAGENET, to_pixels

NAMES = ("cat", "coffee", "rocket", "astronaut")
UNKNOWN = -1  # label of a picture whose class nobody knows


class ExamplePictures(MaskedDataset):
    """Four photographs of scikit-image at their own sizes, without labels and masks."""

    name, split, classes, normalization = "scikit-image", "all", (), IMAGENET
    no_masks = "the photographs of scikit-image have none"

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        image = self.normalization(to_pixels(Image.fromarray(getattr(data, NAMES[index])())))
        nothing = torch.zeros_like(image[:1], dtype=torch.bool)
        return MaskedSample(image=image, mask=nothing, label=UNKNOWN, id=NAMES[index], group=-1, undefined=nothing)

    def label_of(self, index: int) -> int:
        """Return that nobody knows the class."""
        return UNKNOWN

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the photograph as scikit-image has it."""
        return {"image": getattr(data, NAMES[index])(), "label": UNKNOWN, "id": NAMES[index]}
