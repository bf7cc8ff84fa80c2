"""CUB-200-2011: 11 788 photographs of 200 species of birds, outlined by five annotators each.

Source: Wah, Branson, Welinder, Perona and Belongie, The Caltech-UCSD Birds-200-2011 Dataset, technical report
CNS-TR-2011-001, California Institute of Technology, 2011. Masks: its segmentations archive. The photographs are from
Flickr and remain their owners'; they may be used for non-commercial research and education; sibx does not
distribute them.
"""

from pathlib import Path

import pandas as pd
from torch import Tensor

from sibx._checks import check_choice, check_folder, check_range, require
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files

LEVEL = 51  # a fifth of 255: the gray level of a mask is 51 times the number of annotators who saw the bird there
HOME = "https://www.vision.caltech.edu/datasets/cub_200_2011"
TABLES = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
LAYOUT = (
    f"<root>/CUB_200_2011/{{images/<class>/<name>.jpg,{','.join(TABLES)}}} (CUB_200_2011.tgz) and "
    "<root>/segmentations/<class>/<name>.png (segmentations.tgz; <root>/CUB_200_2011/segmentations will do), both from "
    f"{HOME}"
)


class SegmentedBirds(PictureDataset):
    """Rows with CUB's segmentations as masks: True where at least ``agreement`` of five annotators saw the bird."""

    agreement: int

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        mask = self._read_gray(row.mask) >= LEVEL * self.agreement
        return mask, mask & ~mask


class CUBDataset(SegmentedBirds):
    """Birds with their segmentation.

    Args:
        root: folder that holds ``CUB_200_2011`` and ``segmentations``.
        split: ``train`` and ``val`` (every fifth image of the published training list) or ``test``, as published.
        image_size: side of the central square in pixels.
        agreement: how many of the five annotators have to agree that a pixel shows the bird; the default is the
            majority (gray level 153 and above).

    Raises:
        ValueError: an unknown split, an agreement outside 1..5, or a root without the data.
    """

    name = "cub200"

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224, *, agreement: int = 3):
        check_choice("split", split, ("train", "val", "test"))
        check_range("agreement", agreement, 1, 5)
        self.root = check_folder("root", root, LAYOUT)
        require_files(self.root, (f"CUB_200_2011/{name}" for name in TABLES), LAYOUT)
        images, classes, labels, training = (_read_table(self.root / "CUB_200_2011" / name) for name in TABLES)
        table = pd.DataFrame({"image": images, "label": labels, "training": training})
        lost = list(table.index[table.isna().any(axis=1) | ~table["label"].isin(classes.index)])
        require(not lost, "root", f"hold the same images in {', '.join(TABLES)}", f"differences at the ids {lost[:3]}")
        part = table[table["training"] == int(split != "test")]
        part = part.iloc[split_indices(split, len(part))]
        places = {number: place for place, number in enumerate(classes.index)}
        masks = find_segmentations(self.root)
        self.rows = [
            Row(f"CUB_200_2011/images/{image}", mask_file(masks, image), places[label], Path(image).stem)
            for image, label in zip(part["image"], part["label"], strict=True)
        ]
        self.split, self.image_size, self.agreement = split, image_size, agreement
        self._check_rows(LAYOUT)
        self.classes = tuple(_species(name) for name in classes)


def find_segmentations(root: Path) -> str:
    """Return the folder of CUB's segmentations, relative to the root: beside ``CUB_200_2011`` or in it."""
    inside = "CUB_200_2011/segmentations"
    return inside if (root / inside).is_dir() else "segmentations"


def mask_file(folder: str, image: str) -> str:
    """Return the path of the segmentation of ``<class>/<name>.jpg`` in the folder."""
    return f"{folder}/{Path(image).with_suffix('.png').as_posix()}"


def _read_table(path: Path) -> pd.Series:
    """Read lines of ``<id> <value>``."""
    return pd.read_csv(path, sep=" ", header=None, names=["id", "value"], index_col="id")["value"]


def _species(folder: str) -> str:
    """Return ``001.Black_footed_Albatross`` as ``Black footed Albatross``."""
    return folder.partition(".")[2].replace("_", " ")
