"""ETH-80: ten objects of each of eight categories, from many sides, on a plain background, with exact masks.

Source: Leibe and Schiele, Analyzing Appearance and Contour Based Methods for Object Categorization, CVPR 2003. Masks:
those of the publication. No license is stated; sibx does not distribute the data.
"""

from pathlib import Path

from torch import Tensor

from sibx._checks import check_choice, check_folder
from sibx.datasets.pictures import PictureDataset, Row, Size

# Objects of every category, by number: all views of an object are in one split.
OBJECTS = {"train": range(1, 7), "val": range(7, 8), "test": range(8, 11)}
ENDINGS = (".jpg", ".png")
LAYOUT = (
    "<root>/<category>/<1 to 10>/<name>.png (or .jpg) with maps/<name>-map.png beside it (non-zero = object), "
    "<category> one of apple, car, cow, cup, dog, horse, pear, tomato (https://github.com/Kai-Xuan/ETH-80)"
)


class ETH80Dataset(PictureDataset):
    """Views of objects on a plain background: localization is easy here, and no background misleads.

    There is no published split by object: objects 1 to 6 are for training, 7 for validation, 8 to 10 for testing, so
    that a test asks for objects that were never seen.

    Args:
        root: folder that holds ``apple`` and the other categories; any subset of them works.
        split: ``train``, ``val`` or ``test``.
        image_size: side of the images in pixels.

    Raises:
        ValueError: an unknown split, or a root without the data.
    """

    name = "eth80"

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224):
        check_choice("split", split, tuple(OBJECTS))
        self.root = check_folder("root", root, LAYOUT)
        self.split, self.image_size = split, image_size
        folders = sorted(path for path in self.root.iterdir() if (path / "1").is_dir())
        self.classes = tuple(folder.name for folder in folders)
        self.rows = [row for label, folder in enumerate(folders) for row in self._rows(folder, label)]
        self._check_rows(LAYOUT)

    def _rows(self, folder: Path, label: int) -> list[Row]:
        """Return the views of a category's objects that belong to the split."""
        objects = [folder / str(number) for number in OBJECTS[self.split]]
        images = [path for o in objects if o.is_dir() for path in sorted(o.iterdir()) if path.suffix in ENDINGS]
        masks = [path.parent / "maps" / f"{path.stem}-map.png" for path in images]
        names = [[p.relative_to(self.root).as_posix() for p in pair] for pair in zip(images, masks, strict=True)]
        return [Row(image, mask, label, Path(image).stem) for image, mask in names]

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        mask = self._read_gray(row.mask) > 0
        return mask, mask & ~mask
