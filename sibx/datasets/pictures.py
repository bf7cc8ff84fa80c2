"""What data sets of picture files share: one row per sample, masks of the right size, errors that show the layout."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.geometry import resize_and_center_crop, stretch
from sibx.images.normalization import IMAGENET
from sibx.images.reading import read_pixels, read_upright

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One sample.

    Attributes:
        image: path of the picture, relative to the root.
        mask: path of the file that the mask comes from, relative to the root.
        label: class index.
        id: unique name within the data set.
        group: index of a subpopulation, or -1 where the data set has no groups.
    """

    image: str
    mask: str
    label: int
    id: str
    group: int = -1


class PictureDataset(MaskedDataset):
    """Samples read from picture files, one per Row.

    A subclass sets ``root``, ``rows``, ``split``, ``classes`` and ``image_size``, and reads the masks. With
    ``crop = False`` height and width of a picture are scaled separately, and nothing is cut off. Where a picture may
    show several classes, ``unsure`` names all pictures, each with the classes that it may show without a row.
    """

    normalization = IMAGENET
    crop = True
    root: Path
    rows: list[Row]
    image_size: int
    unsure: Mapping[str, set[int]] = MappingProxyType({})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        row = self.rows[index]
        picture = self.read(row.image)
        mask, undefined = self.masks_of(row, picture)
        return MaskedSample(
            image=self.fit(picture),
            mask=mask,
            label=row.label,
            id=row.id,
            group=row.group,
            undefined=undefined,
            photo=row.image,
        )

    def label_of(self, index: int) -> int:
        """Return the class of a row; no picture is read."""
        return self.rows[index].label

    def group_of(self, index: int) -> int:
        """Return the group of a row; no picture is read."""
        return self.rows[index].group

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the files of a sample, and what else its row says."""
        row = self.rows[index]
        files = {"image": self.root / row.image, "mask": self.root / row.mask}
        return {**files, "label": row.label, "id": row.id, "group": row.group}

    def read(self, image: str) -> Tensor:
        """Read a whole picture by its path relative to the root: pixels (C, H, W) in [0, 1]."""
        return read_pixels(self.root / image)

    def fit(self, picture: Tensor) -> Tensor:
        """Return a whole picture as the image of a sample, normalized."""
        return self.normalization(self._resize(picture))

    def masks_of(self, row: Row, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask and the undefined pixels of a sample, of the image's size, both (1, H, W) bool."""
        size = (picture.shape[1], picture.shape[2])
        mask, undefined = self._read_masks(row, size)
        got = f"{row.mask} with {tuple(mask.shape[1:])}"
        require(mask.shape[1:] == size, "root", f"hold masks of their image's size {size}", got)
        return self._resize(mask, masks=True), self._resize(undefined, masks=True)

    def _resize(self, pixels: Tensor, *, masks: bool = False) -> Tensor:
        change = resize_and_center_crop if self.crop else stretch
        return change(pixels, self.image_size, masks=masks)

    def _check_rows(self, layout: str) -> None:
        """Require at least one row, and all files that the rows name."""
        rule = f"hold images of the split {self.split!r}, laid out as {layout}"
        require(bool(self.rows), "root", rule, str(self.root))
        require_files(self.root, (name for row in self.rows for name in (row.image, row.mask)), layout)

    @abstractmethod
    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        """Return the mask and the undefined pixels of the whole picture of size (H, W), both (1, H, W) bool."""

    def _read_values(self, name: str, *modes: str) -> Tensor:
        """Read a picture as it is, (C, H, W), with a palette the indices; it has to be in one of Pillow's ``modes``."""
        picture = read_upright(self.root / name)
        require(picture.mode in modes, "root", f"hold masks of mode {' or '.join(modes)}", f"{name}: {picture.mode}")
        values: Tensor = tv.pil_to_tensor(picture)
        return values

    def _read_gray(self, name: str) -> Tensor:
        """Read a picture of any mode as gray levels, (1, H, W) in 0..255."""
        values: Tensor = tv.pil_to_tensor(read_upright(self.root / name).convert("L"))
        return values


def require_files(root: Path, names: Iterable[str], layout: str) -> None:
    """Require files by their paths relative to the root; the error names the first that is missing."""
    for name in names:
        require((root / name).is_file(), "root", f"hold {name}, laid out as {layout}", str(root))
