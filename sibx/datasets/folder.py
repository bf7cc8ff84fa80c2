"""The user's own images and masks, from a folder tree or from an index file."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.geometry import resize_and_center_crop
from sibx.images.normalization import IMAGENET
from sibx.images.reading import Once, read_pixels, read_upright

LAYOUT = (
    "<root>/images/<class>/<name>.<ext> with <root>/masks/<class>/<name>.png (non-zero = object), or <root>/index.csv "
    "with the columns image,mask,label[,split,group,undefined]"
)
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class _Entry:
    image: Path
    mask: Path | None
    label: str
    split: str
    group: int
    undefined: Path | None


class FolderDataset(MaskedDataset):
    """Images with masks from the user's own folder.

    Either ``root/images/<class>/<name>.<ext>`` with ``root/masks/<class>/<name>.png`` (non-zero = object), or
    ``root/index.csv`` with the columns ``image,mask,label`` and optionally ``split,group,undefined``; paths are
    relative to root, an empty ``mask`` cell means that no mask is known. An image without a mask gets an empty one,
    for which mask scores are undefined. An image that shows several classes may be listed once for each.

    Args:
        root: the folder with the images.
        split: ``all``, ``train``, ``val`` or ``test``. Without a ``split`` column an image belongs to train, val or
            test (60 / 20 / 20 %) by a hash of its path, so that adding images never moves another image.
        image_size: side of the central square in pixels.

    Raises:
        ValueError: a folder that does not exist, an unknown split, missing columns, a listed file that is missing, an
            image that is listed twice with one label, a mask whose size differs from the image's, or a split without
            images.
    """

    name = "folder"
    normalization = IMAGENET

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224):
        check_choice("split", split, ("all", "train", "val", "test"))
        self.root = check_folder("root", root, LAYOUT)
        entries = list(_from_index(self.root) if (self.root / "index.csv").is_file() else _from_tree(self.root))
        self.classes = tuple(sorted({e.label for e in entries}))
        self._ids = _unique_ids(self.root, entries)
        self.entries = [e for e in entries if split in ("all", e.split)]
        self.split, self.image_size = split, image_size
        self._warn = Once()
        require(bool(self.entries), "root", f"hold images of the split {split!r}, laid out as {LAYOUT}", str(root))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        entry = self.entries[index]
        pixels = read_pixels(entry.image, self._warn)
        return MaskedSample(
            image=self.normalization(resize_and_center_crop(pixels, self.image_size)),
            mask=self._read_mask(entry.mask, pixels),
            label=self.classes.index(entry.label),
            id=self._ids[entry],
            group=entry.group,
            undefined=self._read_mask(entry.undefined, pixels),
        )

    def _read_mask(self, path: Path | None, pixels: Tensor) -> Tensor:
        if path is None:
            return torch.zeros(1, self.image_size, self.image_size, dtype=torch.bool)
        picture = read_upright(path, self._warn)
        # An index or gray mask keeps its values; a color mask marks the object where any channel is non-zero.
        gray = picture if picture.mode in ("1", "L", "P", "I", "I;16") else picture.convert("RGB")
        mask = (tv.pil_to_tensor(gray) != 0).any(0, keepdim=True)
        require(
            mask.shape[1:] == pixels.shape[1:],
            "root",
            f"hold masks of their image's size {tuple(pixels.shape[1:])}, upright as EXIF says",
            f"{path.relative_to(self.root)} with {tuple(mask.shape[1:])}",
        )
        return resize_and_center_crop(mask, self.image_size, masks=True)


def _from_tree(root: Path) -> Iterator[_Entry]:
    for image in sorted((root / "images").glob("*/*")):
        if image.suffix.lower() in EXTENSIONS:
            label = image.parent.name
            mask = root / "masks" / label / f"{image.stem}.png"
            split = _hashed_split(image.relative_to(root).as_posix())
            yield _Entry(
                image=image,
                mask=mask if mask.is_file() else None,
                label=label,
                split=split,
                group=-1,
                undefined=None,
            )


def _from_index(root: Path) -> Iterator[_Entry]:
    table = pd.read_csv(root / "index.csv", dtype=str, keep_default_na=False)
    missing = {"image", "mask", "label"} - set(table.columns)
    require(not missing, "root", f"hold an index.csv with the columns {sorted(missing)}", list(table.columns))
    for row in table.to_dict("records"):
        yield _Entry(
            image=_existing(root, row["image"]),
            mask=_existing(root, row["mask"]) if row["mask"] else None,
            label=row["label"],
            split=row.get("split") or _hashed_split(row["image"]),
            group=int(row.get("group") or -1),
            undefined=_existing(root, row["undefined"]) if row.get("undefined") else None,
        )


def _unique_ids(root: Path, entries: list[_Entry]) -> dict[_Entry, str]:
    """Return the id of every entry: the image's path, and the label if the image is listed with several labels."""
    listed = Counter(entry.image for entry in entries)
    twice = [pair for pair, count in Counter((e.image, e.label) for e in entries).items() if count > 1]
    require(not twice, "root", "list an image once for each label", [(str(i), label) for i, label in twice[:3]])
    names = {entry: entry.image.relative_to(root).as_posix() for entry in entries}
    return {entry: name if listed[entry.image] == 1 else f"{name}/{entry.label}" for entry, name in names.items()}


def _existing(root: Path, name: str) -> Path:
    require((root / name).is_file(), "root", "hold every file that index.csv names", name)
    return root / name


def _hashed_split(name: str) -> str:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.6 else "val" if share < 0.8 else "test"
