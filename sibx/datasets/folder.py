"""The user's own images and masks, from a folder tree or from an index file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.datasets.broken import check_headers
from sibx.datasets.folder_files import (
    LAYOUT,
    SPLITS,
    Entry,
    find_entries,
    listed_classes,
    order_classes,
    say_what_is_missing,
)
from sibx.datasets.folder_masks import read_mask, warn_of_doubt
from sibx.images.geometry import resize_and_center_crop
from sibx.images.normalization import IMAGENET, Normalization
from sibx.images.reading import Once, check_picture_channels, read_pixels


class FolderDataset(MaskedDataset):
    """Images with masks from the user's own folder.

    Either ``root/images/<class>/<name>.<ext>`` with masks in ``root/masks/<class>`` (or ``root/mask/<class>``), which
    have the same name or ``<name>_mask`` and any ending, or ``<name>.<ext>.png`` where names differ by their endings
    only; or ``root/index.csv`` with the columns ``image,mask,label`` and optionally ``split,group,undefined``; paths
    are relative to root, an empty ``mask`` cell means that no mask is known. An image without a mask gets an empty one,
    for which mask scores are undefined; beside mask folders, and where the index names some masks, a warning counts
    them. An image that shows several classes may be listed once for each.

    The object of a mask is where any color is not 0, in a palette where the index is not 0, and where alpha is above
    half if there is an alpha channel. Masks in lossy formats (JPEG) are cut at half of their largest value, with a
    warning; others say that a mask is full, or looks inverted. Pictures and masks are turned upright, as EXIF says.

    Args:
        root: the folder with the images.
        split: ``all``, ``train``, ``val`` or ``test``. Without a ``split`` column an image belongs to train, val or
            test (60 / 20 / 20 %) by a hash of its path, so that adding images never moves another image.
        image_size: side of the central square in pixels.
        classes: names of the classes in the order of the model's outputs, among them all labels; None = those that
            ``root/classes.txt`` lists, one a line, without this file the labels, numbers in the order of their values.
        normalization: from pixels to what the model sees, of 3 channels for colors, or of 1 for gray images.

    Raises:
        ValueError: a folder that does not exist, an unknown split, missing columns or labels, a listed file that is
            missing or lies outside of root, an image that is listed twice with one label, two masks for an image or two
            images for a mask, a label that ``classes`` leaves out, a mask whose size differs from the image's, or a
            split without images.
        OSError: pictures or masks that cannot be read, with their names. Headers are looked at in the beginning; what
            is broken behind its header shows when it is read (``--check`` of the command line reads all).
    """

    name = "folder"

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        image_size: int = 224,
        *,
        classes: Sequence[str] | None = None,
        normalization: Normalization = IMAGENET,
    ):
        check_choice("split", split, ("all", *SPLITS))
        check_picture_channels(len(normalization.mean))
        self.normalization = normalization
        self.root = check_folder("root", root, LAYOUT)
        entries = find_entries(self.root)
        self._ids = _unique_ids(self.root, entries)
        self.entries = [e for e in entries if split in ("all", e.split)]
        require(bool(self.entries), "root", f"hold images of the split {split!r}, laid out as {LAYOUT}", str(root))
        order = listed_classes(self.root) if classes is None else classes
        self.classes = order_classes({e.label for e in entries}, order)
        self.split, self.image_size = split, image_size
        check_headers(self.root, _masks_of(self.entries))
        self.no_masks = say_what_is_missing(self.root, self.entries)
        self._warn = Once()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        entry = self.entries[index]
        pixels = read_pixels(entry.image, self._warn, len(self.normalization.mean))
        mask, undefined = (self._read_mask(path, pixels) for path in (entry.mask, entry.undefined))
        if entry.mask is not None:
            warn_of_doubt(mask, entry.mask, self._warn)
        return MaskedSample(
            image=self.normalization(resize_and_center_crop(pixels, self.image_size)),
            mask=resize_and_center_crop(mask, self.image_size, masks=True),
            label=self.label_of(index),
            id=self._ids[entry],
            group=entry.group,
            undefined=resize_and_center_crop(undefined, self.image_size, masks=True),
            photo=entry.image.relative_to(self.root).as_posix(),
        )

    def label_of(self, index: int) -> int:
        """Return the class of an image, which is not read."""
        return self.classes.index(self.entries[index].label)

    def group_of(self, index: int) -> int:
        """Return the group of an image, which is not read."""
        return self.entries[index].group

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the files of a sample, and what else is known of it."""
        entry = self.entries[index]
        files = {"image": entry.image, "mask": entry.mask, "undefined": entry.undefined}
        return {**files, "label": self.label_of(index), "id": self._ids[entry], "group": entry.group}

    def _read_mask(self, path: Path | None, pixels: Tensor) -> Tensor:
        """Return the mask of a whole picture, (1, H, W)."""
        if path is None:
            return torch.zeros_like(pixels[:1], dtype=torch.bool)
        mask, size = read_mask(path, self._warn), tuple(pixels.shape[1:])
        rule = f"hold masks of their image's size {size}, both turned upright as EXIF says"
        require(mask.shape[1:] == size, "root", rule, f"{path.relative_to(self.root)} with {tuple(mask.shape[1:])}")
        return mask


def _masks_of(entries: list[Entry]) -> dict[Path, list[Path]]:
    """Return picture -> the files of all its masks."""
    found: dict[Path, list[Path]] = {entry.image: [] for entry in entries}
    for entry in entries:
        found[entry.image] += [path for path in (entry.mask, entry.undefined) if path is not None]
    return found


def _unique_ids(root: Path, entries: list[Entry]) -> dict[Entry, str]:
    """Return the id of every entry: the image's path, and the label if the image is listed with several labels."""
    listed = Counter(entry.image for entry in entries)
    twice = [pair for pair, count in Counter((e.image, e.label) for e in entries).items() if count > 1]
    require(not twice, "root", "list an image once for each label", [(str(i), label) for i, label in twice[:3]])
    names = {entry: entry.image.relative_to(root).as_posix() for entry in entries}
    return {entry: name if listed[entry.image] == 1 else f"{name}/{entry.label}" for entry, name in names.items()}
