"""Waterbirds: birds of CUB-200-2011 pasted on land or water of Places, in training 95 % on their own.

Source: Sagawa, Koh, Hashimoto and Liang, Distributionally Robust Neural Networks for Group Shifts, ICLR 2020, arXiv
1911.08731. Masks: the segmentations that the birds were cut out with (``sibx.datasets.cub``). The two sources,
CUB-200-2011 and Places, are for non-commercial research and education; sibx does not distribute them.

The published numbers of images, for landbird on land, landbird on water, waterbird on land, waterbird on water:
train 3498, 184, 56, 1057; val 467, 466, 133, 133; test 2255, 2255, 642, 642. The labels are those of metadata.csv. Its
authors looked for words such as "tern" in the names of species, so that Eastern Towhee, Western Meadowlark and Western
Wood Pewee count as waterbirds.
"""

import pandas as pd

from sibx._checks import check_choice, check_folder, check_range, require
from sibx.datasets.cub import HOME, SegmentedBirds, find_segmentations, mask_file
from sibx.datasets.pictures import Row, require_files

FOLDER = "waterbird_complete95_forest2water2"
COLUMNS = ("img_filename", "y", "split", "place")
SPLITS = ("train", "val", "test")  # as numbered in metadata.csv
LAYOUT = (
    f"<root>/{FOLDER}/{{metadata.csv,<class>/<name>.jpg}} (https://nlp.stanford.edu/data/dro/{FOLDER}.tar.gz) and "
    f"<root>/segmentations/<class>/<name>.png (segmentations.tgz from {HOME})"
)


class WaterbirdsDataset(SegmentedBirds):
    """Landbirds (0) and waterbirds (1) on land (0) and water (1); the group of an image is 2 * label + place.

    Args:
        root: folder that holds ``waterbird_complete95_forest2water2`` and ``segmentations``.
        split: ``train``, ``val`` or ``test``, as published; the groups of val and test are balanced, those of train
            are not.
        image_size: side of the central square in pixels.
        agreement: how many of the five annotators have to agree that a pixel shows the bird; default the majority.

    Raises:
        ValueError: an unknown split, an agreement outside 1..5, or a root without the data.
    """

    name = "waterbirds"
    classes = ("landbird", "waterbird")

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224, *, agreement: int = 3):
        check_choice("split", split, SPLITS)
        check_range("agreement", agreement, 1, 5)
        self.root = check_folder("root", root, LAYOUT)
        require_files(self.root, [f"{FOLDER}/metadata.csv"], LAYOUT)
        table = pd.read_csv(self.root / FOLDER / "metadata.csv")
        missing = [name for name in COLUMNS if name not in table.columns]
        require(not missing, "root", f"hold a metadata.csv with the columns {missing}", list(table.columns))
        part = table[table["split"] == SPLITS.index(split)]
        masks = find_segmentations(self.root)
        self.rows = [
            Row(f"{FOLDER}/{image}", mask_file(masks, image), label, image.removesuffix(".jpg"), 2 * label + place)
            for image, label, place in zip(part["img_filename"], part["y"], part["place"], strict=True)
        ]
        self.split, self.image_size, self.agreement = split, image_size, agreement
        self._check_rows(LAYOUT)
