"""What data sets of picture files share: one row per sample, masks of the right size, errors that show the layout."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.geometry import resize_and_center_crop, stretch
from sibx.images.normalization import IMAGENET
from sibx.images.reading import to_pixels

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
    ``crop = False`` height and width of a picture are scaled separately, and nothing is cut off.
    """

    normalization = IMAGENET
    crop = True
    root: Path
    rows: list[Row]
    image_size: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        row = self.rows[index]
        with Image.open(self.root / row.image) as picture:
            pixels = to_pixels(picture)
        size = (pixels.shape[1], pixels.shape[2])
        mask, undefined = self._read_masks(row, size)
        got = f"{row.mask} with {tuple(mask.shape[1:])}"
        require(mask.shape[1:] == size, "root", f"hold masks of their image's size {size}", got)
        fit: Callable[..., Tensor] = resize_and_center_crop if self.crop else stretch
        return MaskedSample(
            image=self.normalization(fit(pixels, self.image_size)),
            mask=fit(mask, self.image_size, masks=True),
            label=row.label,
            id=row.id,
            group=row.group,
            undefined=fit(undefined, self.image_size, masks=True),
        )

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
        with Image.open(self.root / name) as picture:
            rule = f"hold masks of mode {' or '.join(modes)}"
            require(picture.mode in modes, "root", rule, f"{name}: {picture.mode}")
            values: Tensor = tv.pil_to_tensor(picture)
        return values

    def _read_gray(self, name: str) -> Tensor:
        """Read a picture of any mode as gray levels, (1, H, W) in 0..255."""
        with Image.open(self.root / name) as picture:
            values: Tensor = tv.pil_to_tensor(picture.convert("L"))
        return values


def require_files(root: Path, names: Iterable[str], layout: str) -> None:
    """Require files by their paths relative to the root; the error names the first that is missing."""
    for name in names:
        require((root / name).is_file(), "root", f"hold {name}, laid out as {layout}", str(root))
