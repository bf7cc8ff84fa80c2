"""Stanford Dogs: 20 580 photographs of 120 breeds with a box around every dog.

Source: Khosla, Jayadevaprakash, Yao and Fei-Fei, Novel Dataset for Fine-Grained Image Categorization, workshop on
fine-grained visual categorization, CVPR 2011. Masks: its boxes, filled. The photographs and boxes are ImageNet's, for
non-commercial research and education; sibx does not distribute them.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from scipy.io import loadmat
from torch import Tensor

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import split_indices
from sibx.datasets.boxes import draw_boxes
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files

LISTS = {"train": "train_list.mat", "test": "test_list.mat"}
LAYOUT = (
    "<root>/Images/<class>/<name>.jpg (images.tar), <root>/Annotation/<class>/<name> (annotation.tar) and "
    f"<root>/{{{','.join(LISTS.values())}}} (lists.tar), all from http://vision.stanford.edu/aditya86/ImageNetDogs"
)


class _Listed(NamedTuple):
    """A line of a list: ``<class>/<name>.jpg`` and the number of the class, from 1."""

    image: str
    number: int


class StanfordDogsDataset(PictureDataset):
    """Dogs of 120 breeds; the mask is the union of the image's boxes, filled.

    The corners of a box are taken as edges of pixels, in units of the width and height that its annotation states.
    Boxes are cut off at the border of the image.

    Args:
        root: folder that holds ``Images``, ``Annotation`` and the two lists.
        split: ``train`` and ``val`` (every fifth image of the published training list) or ``test``, as published.
        image_size: side of the central square in pixels.

    Raises:
        ValueError: an unknown split, or a root without the data.
    """

    name = "stanford-dogs"

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224):
        check_choice("split", split, ("train", "val", "test"))
        self.root = check_folder("root", root, LAYOUT)
        self.split, self.image_size = split, image_size
        require_files(self.root, LISTS.values(), LAYOUT)
        lists = {part: _read_list(self.root / name) for part, name in LISTS.items()}
        names = {number: _breed(image) for listed in lists.values() for image, number in listed}
        numbers = sorted(names)
        self.classes = tuple(names[number] for number in numbers)
        listed = lists["test" if split == "test" else "train"]
        self.rows = [_row(listed[i], numbers) for i in split_indices(split, len(listed))]
        self._check_rows(LAYOUT)

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        mask = draw_boxes([_read_boxes(self.root / row.mask, size)], size)[0]
        return mask, torch.zeros_like(mask)


def _read_list(path: Path) -> list[_Listed]:
    table = loadmat(path)
    files, numbers = table["file_list"].ravel(), table["labels"].ravel()
    return [_Listed(str(file.item()), int(number)) for file, number in zip(files, numbers, strict=True)]


def _row(listed: _Listed, numbers: list[int]) -> Row:
    name = listed.image.removesuffix(".jpg")
    return Row(f"Images/{listed.image}", f"Annotation/{name}", numbers.index(listed.number), name.rpartition("/")[2])


def _breed(image: str) -> str:
    """Return ``n02086646-Blenheim_spaniel/<name>.jpg`` as ``Blenheim spaniel``."""
    return image.partition("/")[0].partition("-")[2].replace("_", " ")


def _read_boxes(path: Path, size: Size) -> Tensor:
    """Read the boxes (N, 4) of an annotation as (x0, y0, x1, y1) in pixels of an image of the size (H, W)."""
    try:
        tree = ElementTree.parse(path).getroot()
        stated = [_number(tree, f"size/{side}") for side in ("width", "height")]
        boxes = [[_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax")] for box in tree.iter("bndbox")]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"`root` must hold annotations in XML, but got {path}: {error}") from error
    require(min(stated) > 0 and bool(boxes), "root", "hold annotations with a size and a box", str(path))
    height, width = size
    scale = torch.tensor([width / stated[0], height / stated[1]]).repeat(2)
    corners = (torch.tensor(boxes) * scale).clamp_min(0).minimum(torch.tensor([float(width), float(height)]).repeat(2))
    return corners[(corners[:, :2] < corners[:, 2:]).all(1)]


def _number(tree: ElementTree.Element, path: str) -> float:
    return float(tree.findtext(path) or "")
