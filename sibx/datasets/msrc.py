"""MSRC-v2: photographs of 13 classes of objects, from cows to signs, with pixel-exact masks.

Images: Winn, Criminisi and Minka, Object Categorization by Learned Universal Visual Dictionary, ICCV 2005. Cleaned,
pixel-exact segmentation: Malisiewicz and Efros, Improving Spatial Support for Objects via Multiple Segmentations, BMVC
2007. The data set is Microsoft's, for research use; sibx does not distribute it.

Of its 591 images, the 389 are used that show one class of object. LAYOUT is a conversion: the distribution has BMP
images, grouped by their main class; the cleaned segmentation has MATLAB files.
"""

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from sibx._checks import check_choice, check_folder
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files

VOID = 0  # mask value of pixels without a label
TABLE, MASK_VALUES = "image_class_labels.csv", "classes.txt"
LAYOUT = (
    f"<root>/Images/*.jpg, <root>/SegmentationClass/*.png (one class index per pixel, {VOID} = void), "
    f"<root>/{MASK_VALUES} (lines of class index and name) and <root>/{TABLE} (with the columns "
    "image,class,single_object_subset,split)"
)


class MSRCDataset(PictureDataset):
    """One-label images of MSRC-v2; the mask is every pixel of the image's class.

    Args:
        root: folder that holds ``Images``, ``SegmentationClass`` and the two tables.
        split: ``train`` and ``val`` (every fifth image of the table's ``train``) or ``test``.
        image_size: side of the central square in pixels.
        void: what the pixels without a label count as: ``"undefined"`` (default) leaves them out of all mask scores, so
            that a quarter of the images (all books, most flowers) have no background and no score;
            ``"background"`` gives those images a score, but counts the few objects without a label as background.

    Raises:
        ValueError: an unknown split or void, or a root without the data.
    """

    name = "msrc-v2"

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        image_size: int = 224,
        *,
        void: Literal["undefined", "background"] = "undefined",
    ):
        check_choice("split", split, ("train", "val", "test"))
        check_choice("void", void, ("undefined", "background"))
        self.root = check_folder("root", root, LAYOUT)
        require_files(self.root, [TABLE, MASK_VALUES], LAYOUT)
        table = pd.read_csv(self.root / TABLE)
        table = table[table["single_object_subset"] == 1]
        self.classes = tuple(sorted(set(table["class"])))
        part = table[table["split"] == ("test" if split == "test" else "train")]
        part = part.iloc[split_indices(split, len(part))]
        self.rows = [
            Row(f"Images/{image}.jpg", f"SegmentationClass/{image}.png", self.classes.index(label), image)
            for image, label in zip(part["image"], part["class"], strict=True)
        ]
        self.split, self.image_size, self.void = split, image_size, void
        self._check_rows(LAYOUT)
        self.mask_values = read_mask_values(self.root)

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        values = self._read_values(row.mask, "P", "L")
        undefined = values == VOID if self.void == "undefined" else torch.zeros_like(values, dtype=torch.bool)
        return values == self.mask_values[self.classes[row.label]], undefined


def read_mask_values(root: Path) -> dict[str, int]:
    """Return pixel class -> its value in the masks, as the table in the root says."""
    lines = (root / MASK_VALUES).read_text(encoding="utf-8").splitlines()
    return {name: int(value) for value, name in map(str.split, lines)}
