"""COCO's panoptic classes, things and stuff, in photographs that show several: one class index per pixel.

Source: Kirillov, He, Girshick, Rother and Dollár, Panoptic Segmentation, CVPR 2019, arXiv 1801.00868, on photographs of
COCO (Lin et al., ECCV 2014). Annotations under CC BY 4.0; the photographs are from Flickr, each under its own license;
sibx does not distribute them. Masks: those of the data set coco128, which has no published split.
"""

import re
from collections import Counter

from torch import Tensor

from sibx._checks import check_choice, check_folder, check_integer, require
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files
from sibx.images.geometry import central_square

UNLABELED = 0  # mask value of pixels that no class was given
NAMES = "config.yaml"
LAYOUT = (
    f"<root>/{NAMES} (lines of class index: name), <root>/images/<part>/*.jpg and <root>/masks/<part>/*.png (one class "
    "index per pixel; https://github.com/lightly-ai/coco128_yolo)"
)


class COCOPanopticDataset(PictureDataset):
    """One row for each class that a photograph shows; the mask is every pixel of that class, unlabeled ones undefined.

    Things (person, cup) and stuff (sky, wall) are classes alike. Every fourth photograph, in the order of names, is for
    testing, and every fifth of the others for validation.

    Args:
        root: folder that holds the photographs, the masks and the names of the classes.
        split: ``train``, ``val`` or ``test``.
        image_size: side of the central square in pixels.
        least: number of photographs, over all splits, that have to show a class; the others are no classes.
        min_area: smallest share of the square's pixels that a class has to cover to get a row.

    Raises:
        ValueError: an unknown split, a number out of range, or a root without the data.
    """

    name = "coco-panoptic"

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        image_size: int = 224,
        *,
        least: int = 10,
        min_area: float = 0.0,
    ):
        check_choice("split", split, ("train", "val", "test"))
        check_integer("least", least, 1)
        self.root = check_folder("root", root, LAYOUT)
        require_files(self.root, [NAMES], LAYOUT)
        self.split, self.image_size = split, image_size
        photographs = sorted(p.relative_to(self.root).as_posix() for p in self.root.glob("images/*/*.jpg"))
        require_files(self.root, map(_mask_of, photographs), LAYOUT)
        areas = {name: self._areas(_mask_of(name)) for name in photographs}
        shown = Counter(value for found in areas.values() for value, area in found.items() if area >= min_area)
        names = _read_names((self.root / NAMES).read_text(encoding="utf-8"))
        self._values = [value for value in sorted(names) if shown[value] >= least]
        self.classes = tuple(names[value] for value in self._values)
        tested = [name for i, name in enumerate(photographs) if (i % 4 == 3) == (split == "test")]
        self.rows, self.unsure = [], {}
        for name in (tested[i] for i in split_indices(split, len(tested))):
            labels = {label: areas[name].get(value, 0.0) for label, value in enumerate(self._values)}
            self.unsure[name] = {label for label, area in labels.items() if 0 < area < min_area}
            stem = name.rpartition(".")[0]
            self.rows += [
                Row(name, _mask_of(name), label, f"{stem}/{self.classes[label]}")
                for label, area in labels.items()
                if area >= min_area and area > 0
            ]
        self._check_rows(LAYOUT)

    def _areas(self, mask: str) -> dict[int, float]:
        """Return the share of the central square that every class covers, by its index."""
        values, counts = central_square(self._read_values(mask, "L", "P")).unique(return_counts=True)
        shares = counts.double() / counts.sum()
        return {v: share for v, share in zip(values.tolist(), shares.tolist(), strict=True) if v != UNLABELED}

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        values = self._read_values(row.mask, "L", "P")
        return values == self._values[row.label], values == UNLABELED


def _mask_of(photograph: str) -> str:
    return f"masks/{photograph.removeprefix('images/').rpartition('.')[0]}.png"


def _read_names(text: str) -> dict[int, str]:
    names = {int(value): name.strip() for value, name in re.findall(r"^ +(\d+): *(.+)$", text, re.MULTILINE)}
    require(bool(names), "root", f"hold a {NAMES} with lines of class index: name", text[:60])
    return {value: name for value, name in names.items() if value != UNLABELED}
