"""ImageNet-S: images of ImageNet with pixel-exact masks, of 50, 300 or 919 classes.

Source: Gao, Li, Yang, Cheng, Han and Torr, Large-scale Unsupervised Semantic Segmentation, TPAMI 45, 2023, arXiv
2106.03149. Masks: those of the publication. The photographs are ImageNet's, for non-commercial research and
education; sibx does not distribute them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from torch import Tensor

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size

IGNORED = 1000  # class id of pixels that the annotators left out
COUNTS = (50, 300, 919)
LAYOUT = (
    "<root>/ImageNetS<50, 300 or 919>/{train-semi,validation}/<class>/<name>.JPEG with {train-semi,validation}-"
    "segmentation/<class>/<name>.png (the scripts of https://github.com/LUSSeg/ImageNet-S make it out of ImageNet)"
)


class ImageNetSDataset(PictureDataset):
    """Images of ImageNet with the pixels of their class; ignored pixels are undefined.

    The classes are WordNet ids (``n01443537``), sorted, as ImageNet's are. A mask holds class ids, R + 256 G, counted
    from 1 in that order; pixels of other classes, or of no class (0), are background.

    Args:
        root: folder that holds ``ImageNetS50``, ``ImageNetS300`` or ``ImageNetS919``.
        split: ``train`` and ``val`` (every fifth image of ``train-semi``, ten images per class) or ``test`` (the
            published ``validation``; the masks of the published test images are not public).
        image_size: side of the central square in pixels.
        count: number of classes, 50, 300 or 919.

    Raises:
        ValueError: an unknown split or count, or a root without the data.
    """

    name = "imagenet-s"

    def __init__(
        self, root: str | None, split: str = "test", image_size: int = 224, *, count: Literal[50, 300, 919] = 50
    ):
        check_choice("split", split, ("train", "val", "test"))
        require(count in COUNTS, "count", f"be one of {', '.join(map(str, COUNTS))}", count)
        self.root = check_folder("root", root, LAYOUT)
        self.split, self.image_size = split, image_size
        images = self.root / f"ImageNetS{count}" / ("validation" if split == "test" else "train-semi")
        folders = sorted(path for path in images.glob("n*") if path.is_dir())
        # Class ids are ranks among all classes: without one of the folders they would name other classes.
        rule = f"hold the {count} class folders of {images.relative_to(self.root)}, laid out as {LAYOUT}"
        require(len(folders) == count, "root", rule, f"{len(folders)} of them in {self.root}")
        self.classes = tuple(path.name for path in folders)
        rows = [self._row(path, label) for label, path in _images(folders)]
        self.rows = [rows[i] for i in split_indices(split, len(rows))]
        self._check_rows(LAYOUT)

    def _row(self, path: Path, label: int) -> Row:
        image = path.relative_to(self.root)
        masks = image.parents[1].with_name(f"{image.parents[1].name}-segmentation")
        mask = masks / path.parent.name / f"{path.stem}.png"
        return Row(image.as_posix(), mask.as_posix(), label, path.stem)

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        red, green, _ = self._read_values(row.mask, "RGB").int().split(1)
        ids = red + 256 * green
        return ids == row.label + 1, ids == IGNORED


def _images(folders: list[Path]) -> Iterator[tuple[int, Path]]:
    for label, folder in enumerate(folders):
        yield from ((label, path) for path in sorted(folder.glob("*.JPEG")))
