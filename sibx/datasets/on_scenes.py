"""Pets or the objects of ETH-80 on scenes of MSRC-v2: photographs whose background misleads as often as you set.

The idea is that of Waterbirds (Sagawa et al., ICLR 2020, arXiv 1911.08731), as ``sibx.datasets.composite`` builds it;
pictures and licenses are those of ``sibx.datasets.pets``, ``eth80`` and ``msrc``. A scene of a kind is a picture of
MSRC-v2 of whose central square at least SHARE is of that pixel class, more than of any other kind's, and which shows no
animal.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_folder, check_range, look_up, require
from sibx.datasets import eth80, msrc, pets
from sibx.datasets.base import MaskedDataset, split_indices
from sibx.datasets.composite import CompositeDataset
from sibx.datasets.pictures import require_files
from sibx.datasets.synthetic import SPLITS
from sibx.images.geometry import central_square
from sibx.images.reading import read_upright

FOLDER, PICTURE, MASK = "msrc-v2", "Images/{}.jpg", "SegmentationClass/{}.png"
ETH80 = "eth80"  # folder below the root
SCENES_LAYOUT = msrc.LAYOUT.replace("<root>", f"<root>/{FOLDER}")
ANIMALS = ("bird", "cat", "cow", "dog", "horse", "sheep")  # pixel classes that a scene must not show: a second object
SHARE = 0.4  # of a scene's central square, at least, that is of its kind


def _open_pets(root: str | None, split: str, image_size: int) -> MaskedDataset:
    return pets.PetsDataset(root, split, image_size, boundary="background")


def _open_eth80(root: str | None, split: str, image_size: int) -> MaskedDataset:
    return eth80.ETH80Dataset(root and f"{root}/{ETH80}", split, image_size)


class _Objects(NamedTuple):
    """What is pasted: function ``(root, split, image size)`` -> objects, and their layout."""

    open: Callable[[str | None, str, int], MaskedDataset]
    layout: str


OBJECTS = {
    "pets": _Objects(_open_pets, pets.LAYOUT),
    "eth80": _Objects(_open_eth80, eth80.LAYOUT.replace("<root>", f"<root>/{ETH80}")),
}


class ObjectsOnScenesDataset(CompositeDataset):
    """Objects cut out by their masks (pets without their trimaps' boundary) and pasted on scenes of several kinds.

    Class c has kind c modulo the number of kinds. In training an object's scene is of its class's own kind with
    probability ``agreement``, in ``test-id`` too; in ``val``, as in Waterbirds, and in ``test-decorrelated`` all kinds
    are equally likely; in ``test-adversarial`` it is never of the own kind. Training, validation and test share no
    picture. The three test splits show the same objects, equally large and at the same place, so that they can be
    compared image by image.

    Args:
        objects: what is pasted, ``pets`` or ``eth80``.
        root: folder that holds ``msrc-v2`` and, with any subset of the classes, ``oxford-iiit-pet`` or ``eth80``.
        split: ``train``, ``val``, ``test-id``, ``test-decorrelated`` or ``test-adversarial``; ``test`` = ``test-id``.
        image_size: side of the images in pixels.
        agreement: probability in [0, 1] that a scene is of the class's own kind, in ``train`` and ``test-id``.
        scale: smallest and largest share of the image that an object covers, in (0, 1].
        kinds: pixel classes of MSRC-v2 that are the kinds of scenes, at least two.
        copies: number of scenes that every object's image of ``train`` and ``val`` is pasted on; in the test splits
            one, so that images do not depend on each other.
        seed: seed of the random draws.

    Raises:
        ValueError: unknown objects, an unknown split or kind, numbers out of range, or a root without the data.
    """

    def __init__(
        self,
        objects: str,
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
        source = look_up("objects", objects, OBJECTS)
        split = "test-id" if split == "test" else split
        check_choice("split", split, SPLITS)
        check_range("agreement", agreement, 0, 1)
        require(len(set(kinds)) == len(kinds) > 1, "kinds", "name at least two pixel classes, each once", list(kinds))
        require(len(scale) == 2, "scale", "be a smallest and a largest share", list(scale))
        part = "test" if split.startswith("test") else split
        layout = f"{source.layout}, and {SCENES_LAYOUT}"
        scenes = find_scenes(check_folder("root", root and f"{root}/{FOLDER}", layout), part, kinds)
        super().__init__(
            source.open(root, part, image_size),
            scenes,
            agreement={"train": agreement, "test-id": agreement, "test-adversarial": 0.0}.get(split, 1 / len(kinds)),
            scale=(scale[0], scale[1]),
            copies=1 if part == "test" else copies,
            split=split,
            seed=seed,
        )
        self.name = f"{objects}-on-scenes"


def find_scenes(root: Path, split: str, kinds: Sequence[str]) -> dict[str, list[Path]]:
    """Return kind -> the pictures of MSRC-v2 that are scenes of that kind.

    Args:
        root: folder of MSRC-v2.
        split: ``train`` and ``val`` (every fifth scene of a kind of the table's ``train``) or ``test``.
        kinds: pixel classes.

    Raises:
        ValueError: an unknown pixel class, or a missing file.
    """
    require_files(root, [msrc.TABLE, msrc.MASK_VALUES], SCENES_LAYOUT)
    values = msrc.read_mask_values(root)
    for kind in kinds:
        check_choice("kinds", kind, tuple(values))
    table = pd.read_csv(root / msrc.TABLE)
    images = table["image"][table["split"] == ("test" if split == "test" else "train")].tolist()
    pictures, masks = ([name.format(image) for image in images] for name in (PICTURE, MASK))
    require_files(root, [*pictures, *masks], SCENES_LAYOUT)
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
    values: Tensor = central_square(tv.pil_to_tensor(read_upright(mask)))
    return values.flatten().bincount(minlength=256) / values.numel()
