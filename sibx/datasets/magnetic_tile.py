"""Magnetic-tile surface defects: gray photographs of tiles, small defects of five kinds, and tiles without any.

Source: Huang, Qiu and Yuan, Surface Defect Saliency of Magnetic Tile, The Visual Computer 36, 2020. Masks: those of
the publication, pixel-exact. No license is stated; the authors welcome use and ask to be cited; sibx does not
distribute the data.
"""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sibx._checks import check_choice, check_folder
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size

FREE = "Free"  # the class of tiles without a defect
GRAY = 127  # gray level above which a pixel of a mask belongs to the defect
LAYOUT = (
    "<root>/MT_<class>/Imgs/<name>.jpg with <name>.png beside it (white = defect), <class> one of Blowhole, Break, "
    "Crack, Fray, Uneven, Free (https://github.com/abin24/Magnetic-tile-defect-datasets.)"
)


class MagneticTileDataset(PictureDataset):
    """Tiles with the mask of their defect; tiles without one ("Free") have an empty mask, whose scores are undefined.

    The data has no published split: every fourth image of a class, in the order of names, is for testing, and every
    fifth of the others for validation. Height and width of an image are scaled separately, because the central square
    would cut off the whole defect in three of ten images.

    Args:
        root: folder that holds ``MT_Blowhole`` and the other classes; any subset of them works.
        split: ``train``, ``val`` or ``test``.
        image_size: side of the images in pixels.
        binary: whether there are two classes, ``Free`` and ``Defect``, instead of one for each kind of defect.

    Raises:
        ValueError: an unknown split, or a root without the data.
    """

    name = "magnetic-tile"
    crop = False

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224, *, binary: bool = False):
        check_choice("split", split, ("train", "val", "test"))
        self.root = check_folder("root", root, LAYOUT)
        self.split, self.image_size = split, image_size
        folders = sorted(path for path in self.root.glob("MT_*") if path.is_dir())
        self.classes = tuple(path.name.removeprefix("MT_") for path in folders)
        rows = [row for label, folder in enumerate(folders) for row in self._rows(folder, label)]
        self.rows = [rows[i] for i in split_indices(split, len(rows))]
        if binary:
            free = self.classes.index(FREE) if FREE in self.classes else None
            self.classes = (FREE, "Defect")
            self.rows = [replace(row, label=int(row.label != free)) for row in self.rows]
        self._check_rows(LAYOUT)

    def _rows(self, folder: Path, label: int) -> list[Row]:
        """Return the rows of a class that are for testing, or for the other splits those that are not."""
        images = sorted((folder / "Imgs").glob("*.jpg"))
        names = [path.relative_to(self.root) for path in images]
        chosen = [name for i, name in enumerate(names) if (i % 4 == 3) == (self.split == "test")]
        return [Row(n.as_posix(), n.with_suffix(".png").as_posix(), label, n.stem) for n in chosen]

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        mask = self._read_gray(row.mask) > GRAY
        return mask, mask & ~mask
