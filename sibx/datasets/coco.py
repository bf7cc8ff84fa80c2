"""COCO 2017, instances: 80 classes of objects, many in a photograph, outlined one by one.

Source: Lin, Maire, Belongie, Hays, Perona, Ramanan, Dollár and Zitnick, Microsoft COCO: Common Objects in Context, ECCV
2014, arXiv 1405.0312. Masks: its instances. Annotations under CC BY 4.0; the photographs are from Flickr, each under
its own license; sibx does not distribute them.
"""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_choice, check_folder, check_range
from sibx.datasets.base import split_indices
from sibx.datasets.coco_masks import decode_segmentation
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files
from sibx.images.geometry import central_square

LAYOUT = (
    "<root>/{train2017,val2017}/*.jpg and <root>/annotations/instances_{train,val}2017.json (train2017.zip, "
    "val2017.zip, annotations_trainval2017.zip from https://cocodataset.org/#download)"
)
Annotation = dict[str, Any]


class COCODataset(PictureDataset):
    """One row for each class that a photograph shows; the mask is the union of the class's instances.

    A class is shown if one of its instances reaches into the central square; what lies outside the square is cut off.
    Crowds of the row's class, which the annotators did not outline one by one, are undefined where no instance lies
    over them; a class that is there only as a crowd makes no row. Objects of a few pixels can vanish when the square is
    made smaller, and then have no scores; ``min_area`` leaves them out.

    Args:
        root: folder that holds ``train2017``, ``val2017`` and ``annotations``.
        split: ``train`` and ``val`` (every fifth photograph of ``train2017``, in the order of ids) or ``test``
            (``val2017``; the annotations of the published test images are not public).
        image_size: side of the central square in pixels.
        min_area: smallest share of the photograph's pixels that the instances of a class have to cover together to get
            a row, by the areas that the annotations state.

    Raises:
        ValueError: an unknown split, ``min_area`` outside [0, 1], or a root without the data.
    """

    name = "coco"

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224, *, min_area: float = 0.0):
        check_choice("split", split, ("train", "val", "test"))
        check_range("min_area", min_area, 0, 1)
        self.root = check_folder("root", root, LAYOUT)
        self.split, self.image_size = split, image_size
        self._part = "val2017" if split == "test" else "train2017"
        self._listed = f"annotations/instances_{self._part}.json"
        require_files(self.root, [self._listed], LAYOUT)
        tables = json.loads((self.root / self._listed).read_text(encoding="utf-8"))
        categories = sorted(tables["categories"], key=lambda category: category["id"])
        self.classes = tuple(category["name"] for category in categories)
        labels = {category["id"]: label for label, category in enumerate(categories)}
        images = sorted(tables["images"], key=lambda image: image["id"])
        chosen = {image["id"]: image for image in (images[i] for i in split_indices(split, len(images)))}
        groups = _group(tables["annotations"], labels, chosen)
        self._objects: dict[str, list[Annotation]] = {}  # id of a row -> its instances and crowds
        self.unsure: dict[str, set[int]] = {self._path(image): set() for image in chosen.values()}
        self.rows = []
        for (number, label), objects in sorted(groups.items()):
            image = chosen[number]
            size = image["height"], image["width"]
            if _is_shown(objects, size, min_area):
                self.rows.append(self._add(image, label, objects))
            elif _may_be_shown(objects, size):
                self.unsure[self._path(image)].add(label)
        self._check_rows(LAYOUT)

    def _add(self, image: Annotation, label: int, objects: list[Annotation]) -> Row:
        name = image["file_name"]
        unique = f"{name.removesuffix('.jpg')}/{self.classes[label]}"
        self._objects[unique] = objects
        return Row(self._path(image), self._listed, label, unique)

    def _path(self, image: Annotation) -> str:
        return f"{self._part}/{image['file_name']}"

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        instances, crowds = _by_kind(self._objects[row.id])
        mask = _union(instances, size)
        return mask, _union(crowds, size) & ~mask


def _group(
    annotations: list[Annotation], labels: dict[int, int], images: dict[int, Annotation]
) -> dict[tuple[int, int], list[Annotation]]:
    """Group the annotations of these images by the id of the image and the label."""
    groups: dict[tuple[int, int], list[Annotation]] = {}
    for annotation in annotations:
        if annotation["image_id"] in images:
            key = annotation["image_id"], labels[annotation["category_id"]]
            groups.setdefault(key, []).append(annotation)
    return groups


def _by_kind(objects: list[Annotation]) -> tuple[list[Annotation], list[Annotation]]:
    """Return the instances and the crowds."""
    return [o for o in objects if not o["iscrowd"]], [o for o in objects if o["iscrowd"]]


def _is_shown(objects: list[Annotation], size: Size, min_area: float) -> bool:
    """Return whether the instances together are large enough, and one reaches into the central square."""
    instances, _ = _by_kind(objects)
    if not instances or sum(o["area"] for o in instances) < min_area * size[0] * size[1]:
        return False
    height, width = size
    side = min(size)
    corner = np.array([round((width - side) / 2), round((height - side) / 2)])
    low, extent = np.split(np.array([o["bbox"] for o in instances]), 2, axis=1)
    # If the whole box of an instance lies in the square, no mask has to be drawn.
    if ((low >= corner) & (low + extent <= corner + side)).all(1).any():
        return True
    return bool(central_square(_union(instances, size)).any())


def _may_be_shown(objects: list[Annotation], size: Size) -> bool:
    """Return whether a crowd, or an instance of any size, reaches into the central square."""
    return bool(central_square(_union(objects, size)).any())


def _union(objects: list[Annotation], size: Size) -> Tensor:
    mask = np.zeros(size, dtype=bool)
    for annotation in objects:
        mask |= decode_segmentation(annotation["segmentation"], size)
    return torch.from_numpy(mask).unsqueeze(0)
