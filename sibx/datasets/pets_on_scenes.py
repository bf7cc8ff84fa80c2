"""Pets of Oxford-IIIT Pet on scenes of MSRC-v2: photographs whose background misleads as often as you set.

The idea is that of Waterbirds (Sagawa et al., ICLR 2020, arXiv 1911.08731), as ``sibx.datasets.composite`` builds it;
pictures and licenses are those of ``sibx.datasets.pets`` and ``sibx.datasets.msrc``. A scene of a kind is a picture of
MSRC-v2 of whose central square at least SHARE is of that pixel class, more than of any other kind's, and which shows no
animal.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_folder, check_range, require
from sibx.datasets import msrc, pets
from sibx.datasets.base import split_indices
from sibx.datasets.composite import CompositeDataset
from sibx.datasets.pictures import require_files
from sibx.datasets.synthetic import SPLITS
from sibx.images.geometry import central_square

FOLDER, PICTURE, MASK = "msrc-v2", "Images/{}.jpg", "SegmentationClass/{}.png"
LAYOUT = f"{pets.LAYOUT}, and " + msrc.LAYOUT.replace("<root>", f"<root>/{FOLDER}")
ANIMALS = ("bird", "cat", "cow", "dog", "horse", "sheep")  # pixel classes that a scene must not show: a second object
SHARE = 0.4  # of a scene's central square, at least, that is of its kind


class PetsOnScenesDataset(CompositeDataset):
    """Pets cut out by their trimaps, without the boundary pixels, and pasted on scenes of several kinds.

    Class c has kind c modulo the number of kinds. In training a pet's scene is of its class's own kind with probability
    ``agreement``, in ``test-id`` too; in ``val``, as in Waterbirds, and in ``test-decorrelated`` all kinds are equally
    likely; in ``test-adversarial`` it is never of the own kind. Training, validation and test share no picture. The
    three test splits show the same pets, equally large and at the same place, so that they can be compared image by
    image.

    Args:
        root: folder that holds ``oxford-iiit-pet`` (any subset of the breeds) and ``msrc-v2``.
        split: ``train``, ``val``, ``test-id``, ``test-decorrelated`` or ``test-adversarial``; ``test`` = ``test-id``.
        image_size: side of the images in pixels.
        agreement: probability in [0, 1] that a scene is of the class's own kind, in ``train`` and ``test-id``.
        scale: smallest and largest share of the image that a pet covers, in (0, 1].
        kinds: pixel classes of MSRC-v2 that are the kinds of scenes, at least two.
        copies: number of scenes that every pet of ``train`` and ``val`` is pasted on; in the test splits one, so that
            images do not depend on each other.
        seed: seed of the random draws.

    Raises:
        ValueError: an unknown split or kind, numbers out of range, or a root without the data.
    """

    name = "pets-on-scenes"

    def __init__(
        self,
        root: str | None,
        split: str = "test-id",
        image_size: int = 224,
        *,
        agreement: float = 0.95,
        scale: Sequence[float] = (0.1, 0.3),
        kinds: Sequence[str] = ("grass", "water", "building"),
        copies: int = 4,
        seed: int = 0,
    ):
        split = "test-id" if split == "test" else split
        check_choice("split", split, SPLITS)
        check_range("agreement", agreement, 0, 1)
        require(len(set(kinds)) == len(kinds) > 1, "kinds", "name at least two pixel classes, each once", list(kinds))
        require(len(scale) == 2, "scale", "be a smallest and a largest share", list(scale))
        part = "test" if split.startswith("test") else split
        scenes = find_scenes(check_folder("root", root and f"{root}/{FOLDER}", LAYOUT), part, kinds)
        super().__init__(
            pets.PetsDataset(root, part, image_size, boundary="background"),
            scenes,
            agreement={"train": agreement, "test-id": agreement, "test-adversarial": 0.0}.get(split, 1 / len(kinds)),
            scale=(scale[0], scale[1]),
            copies=1 if part == "test" else copies,
            split=split,
            seed=seed,
        )
        self.name = type(self).name


def find_scenes(root: Path, split: str, kinds: Sequence[str]) -> dict[str, list[Path]]:
    """Return kind -> the pictures of MSRC-v2 that are scenes of that kind.

    Args:
        root: folder of MSRC-v2.
        split: ``train`` and ``val`` (every fifth scene of a kind of the table's ``train``) or ``test``.
        kinds: pixel classes.

    Raises:
        ValueError: an unknown pixel class, or a missing file.
    """
    require_files(root, [msrc.TABLE, msrc.MASK_VALUES], LAYOUT)
    values = msrc.read_mask_values(root)
    for kind in kinds:
        check_choice("kinds", kind, tuple(values))
    table = pd.read_csv(root / msrc.TABLE)
    images = table["image"][table["split"] == ("test" if split == "test" else "train")].tolist()
    pictures, masks = ([name.format(image) for image in images] for name in (PICTURE, MASK))
    require_files(root, [*pictures, *masks], LAYOUT)
    shares = torch.stack([_shares(root / mask) for mask in masks])  # (images, 256)
    quiet = shares[:, [value for name, value in values.items() if name in ANIMALS]].sum(1) == 0
    largest, own = shares[:, [values[kind] for kind in kinds]].max(1)
    found = [((own == k) & (largest >= SHARE) & quiet).nonzero()[:, 0].tolist() for k in range(len(kinds))]
    return {
        kind: [root / pictures[rows[i]] for i in split_indices(split, len(rows))]
        for kind, rows in zip(kinds, found, strict=True)
    }


def _shares(mask: Path) -> Tensor:
    """Return how much of a mask's central square every pixel value has, (256,)."""
    with Image.open(mask) as picture:
        values: Tensor = central_square(tv.pil_to_tensor(picture))
    return values.flatten().bincount(minlength=256) / values.numel()
