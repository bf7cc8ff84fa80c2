"""MSRC-v2: photographs of 13 classes of objects, from cows to signs, with pixel-exact masks.

Images: Winn, Criminisi and Minka, Object Categorization by Learned Universal Visual Dictionary, ICCV 2005. Cleaned,
pixel-exact segmentation: Malisiewicz and Efros, Improving Spatial Support for Objects via Multiple Segmentations, BMVC
2007. The data set is Microsoft's, for research use; sibx does not distribute it.

Of its 591 images, the 389 are used that show one class of object. LAYOUT is a conversion: the distribution has BMP
images, grouped by their main class; the cleaned segmentation has MATLAB files.
"""

from typing import Literal

import pandas as pd
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import MaskedDataset, MaskedSample, split_indices
from sibx.datasets.transforms import IMAGENET, resize_and_center_crop, to_pixels

VOID = 0  # mask value of pixels that nobody labeled
TABLE, MASK_VALUES = "image_class_labels.csv", "classes.txt"
LAYOUT = (
    f"<root>/Images/*.jpg, <root>/SegmentationClass/*.png (one class index per pixel, {VOID} = void), "
    f"<root>/{MASK_VALUES} (lines of class index and name) and <root>/{TABLE} (with the columns "
    "image,class,single_object_subset,split)"
)


class MSRCDataset(MaskedDataset):
    """One-label images of MSRC-v2; the mask is every pixel of the image's class.

    Args:
        root: folder that holds ``Images``, ``SegmentationClass`` and the two tables.
        split: ``train`` and ``val`` (every fifth image of the table's ``train``) or ``test``.
        image_size: side of the central square in pixels.
        void: what the pixels without a label are: ``"undefined"`` (default) leaves them out of all mask scores, which
            leaves a quarter of the images (all books, most flowers) without any background and so without a score;
            ``"background"`` scores those too, at the price of the few objects that were not labeled.

    Raises:
        ValueError: unknown split or void, or a root without the data.
    """

    name = "msrc-v2"
    normalization = IMAGENET

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
        self._require_files(TABLE, MASK_VALUES)
        table = pd.read_csv(self.root / TABLE)
        table = table[table["single_object_subset"] == 1]
        part = table[table["split"] == ("test" if split == "test" else "train")]
        part = part.iloc[split_indices(split, len(part))]
        self.entries = list(zip(part["image"], part["class"], strict=True))
        self._require_files(*(f"Images/{image}.jpg" for image, _ in self.entries))
        self._require_files(*(f"SegmentationClass/{image}.png" for image, _ in self.entries))
        self.split, self.image_size, self.void = split, image_size, void
        self.classes = tuple(sorted(set(table["class"])))
        lines = (self.root / MASK_VALUES).read_text(encoding="utf-8").splitlines()
        self.mask_values = {name: int(value) for value, name in map(str.split, lines)}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        image, label = self.entries[index]
        with Image.open(self.root / "Images" / f"{image}.jpg") as picture:
            pixels = to_pixels(picture)
        with Image.open(self.root / "SegmentationClass" / f"{image}.png") as picture:
            values = resize_and_center_crop(tv.pil_to_tensor(picture), self.image_size, masks=True)
        return MaskedSample(
            image=self.normalization(resize_and_center_crop(pixels, self.image_size)),
            mask=values == self.mask_values[label],
            label=self.classes.index(label),
            id=image,
            group=-1,
            undefined=values == VOID if self.void == "undefined" else torch.zeros_like(values, dtype=torch.bool),
        )

    def _require_files(self, *names: str) -> None:
        for name in names:
            require((self.root / name).is_file(), "root", f"hold {name}, laid out as {LAYOUT}", str(self.root))
