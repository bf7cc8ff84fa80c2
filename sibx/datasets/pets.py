"""Oxford-IIIT Pet: 37 breeds of cats and dogs with a trimap for every image (Parkhi et al., CVPR 2012)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torchvision.datasets import OxfordIIITPet
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_folder
from sibx.datasets.base import MaskedDataset, MaskedSample, split_indices
from sibx.images.geometry import resize_and_center_crop
from sibx.images.normalization import IMAGENET
from sibx.images.reading import naming, to_pixels, upright

OBJECT, BOUNDARY = 1, 3  # trimap values; 2 is background
LAYOUT = (
    "<root>/oxford-iiit-pet/images/*.jpg, <root>/oxford-iiit-pet/annotations/{trainval,test}.txt and annotations/"
    "trimaps/*.png (download=True fetches the full set, with torchvision.datasets.OxfordIIITPet)"
)


class PetsDataset(MaskedDataset):
    """Pets with their segmentation.

    Args:
        root: folder that holds ``oxford-iiit-pet``, as torchvision lays it out; any subset of the breeds works.
        split: ``train`` and ``val`` (every fifth image of ``trainval``) or ``test``.
        image_size: side of the central square in pixels.
        boundary: what the boundary pixels of the trimap count as: ``"object"`` (default), ``"background"``, or
            ``"undefined"``, which leaves them out of all mask scores.
        download: let torchvision fetch the data into ``root`` first (0.8 GB, checksummed).

    Raises:
        ValueError: an unknown split or boundary, or a root without the data.
    """

    name = "oxford-pets"
    normalization = IMAGENET

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        image_size: int = 224,
        *,
        boundary: Literal["object", "background", "undefined"] = "object",
        download: bool = False,
    ):
        check_choice("split", split, ("train", "val", "test"))
        check_choice("boundary", boundary, ("object", "background", "undefined"))
        part = "test" if split == "test" else "trainval"
        if download and root is not None:
            OxfordIIITPet(root, split=part, download=True)
        check_folder("root", root and f"{root}/oxford-iiit-pet", LAYOUT)
        try:
            self.source = OxfordIIITPet(root, split=part, target_types=["category", "segmentation"])
        except (RuntimeError, FileNotFoundError) as error:
            raise ValueError(f"`root` must be a folder laid out as {LAYOUT}, but got {root!r}: {error}") from error
        self.split, self.image_size, self.boundary = split, image_size, boundary
        self.classes = tuple(self.source.classes)
        self.indices = split_indices(split, len(self.source))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        source_index = self.indices[index]
        with naming(str(self.source._images[source_index])):
            picture, (label, trimap_picture) = self.source[source_index]
        trimap = tv.pil_to_tensor(upright(trimap_picture))
        trimap = resize_and_center_crop(trimap, self.image_size, masks=True)
        mask, edge = trimap == OBJECT, trimap == BOUNDARY
        return MaskedSample(
            image=self.normalization(resize_and_center_crop(to_pixels(picture), self.image_size)),
            mask=mask | edge if self.boundary == "object" else mask,
            label=int(label),
            id=self.source._images[source_index].stem,
            group=-1,
            undefined=edge if self.boundary == "undefined" else torch.zeros_like(edge),
        )

    def label_of(self, index: int) -> int:
        """Return the breed of a pet, whose picture is not read."""
        return int(self.source._labels[self.indices[index]])

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the picture and the trimap, and the breed."""
        picture, trimap = (files[self.indices[index]] for files in (self.source._images, self.source._segs))
        return {"image": Path(picture), "mask": Path(trimap), "label": self.label_of(index), "id": Path(picture).stem}
