"""ImageNet-Segmentation: 4,276 photographs of 445 classes with the pixels of the object.

The test of most explanations of vision transformers. Source: Guillaumin, Kuettel and Ferrari, ImageNet Auto-Annotation
with Segmentation Propagation, IJCV 110, 2014. Masks: those of the publication. The photographs are ImageNet's, for
non-commercial research and education; sibx does not distribute them.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_choice, check_folder, require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.images.geometry import stretch
from sibx.images.normalization import IMAGENET

FILE = "gtsegs_ijcv.mat"
LAYOUT = f"<root>/{FILE} (MATLAB 7.3; http://calvin-vision.net/bigstuff/proj-imagenet/data/{FILE})"
WORDNET_ID = re.compile(r"n\d{8}")
UNKNOWN = "unknown"  # class of images whose name tells none


class ImageNetSegmentationDataset(MaskedDataset):
    """Photographs of ImageNet with the pixels of their object, scaled to squares as in the protocol of Chefer 2020.

    All are there to test on. The classes are the WordNet ids in the names of the images, sorted; not all of them are
    among ImageNet's 1,000, and ``class_map="wordnet"`` leaves out those that are not. Values of a mask other than 0 and
    1 are undefined pixels. Samples are read from the one file when they are asked for; needs the extra
    ``segmentation``.

    Args:
        root: folder that holds ``gtsegs_ijcv.mat``.
        split: ``test``, the only one.
        image_size: side of the square in pixels.

    Raises:
        ValueError: another split, or a root without the file.
        ImportError: h5py is not installed.
        OSError: the file is no MATLAB 7.3 file, or not this one.
    """

    name = "imagenet-segmentation"
    normalization = IMAGENET

    def __init__(self, root: str | None, split: str = "test", image_size: int = 224):
        check_choice("split", split, ("test",))
        self.path = check_folder("root", root, LAYOUT) / FILE
        require(self.path.is_file(), "root", f"hold {FILE}, laid out as {LAYOUT}", root)
        self.split, self.image_size = split, image_size
        with self._reading() as file:
            self.ids = _names(file)
        synsets = [found.group() if (found := WORDNET_ID.search(name)) else UNKNOWN for name in self.ids]
        self.classes = tuple(sorted(set(synsets)))
        places = {name: place for place, name in enumerate(self.classes)}
        self._labels = [places[name] for name in synsets]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        with self._reading() as file:
            pixels, values = (torch.from_numpy(_cell(file, field, index)) for field in ("img", "gt"))
        require(pixels.dtype == torch.uint8, "root", "hold pictures of bytes", f"{self.ids[index]} of {pixels.dtype}")
        # MATLAB counts columns first: (C, W, H) or of gray pictures (W, H), and (W, H).
        pixels, values = pixels.mT.expand(3, -1, -1) / 255, values.mT.unsqueeze(0)
        got = f"{self.ids[index]} with {tuple(values.shape[1:])}"
        require(values.shape[1:] == pixels.shape[1:], "root", f"hold masks of size {tuple(pixels.shape[1:])}", got)
        return MaskedSample(
            image=self.normalization(stretch(pixels, self.image_size)),
            mask=self._fit(values == 1),
            label=self._labels[index],
            id=self.ids[index],
            group=-1,
            undefined=self._fit((values != 0) & (values != 1)),
        )

    def label_of(self, index: int) -> int:
        """Return the class of a sample; no picture is read."""
        return self._labels[index]

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the file, and where in it a sample is."""
        label, name = self._labels[index], self.ids[index]
        return {"image": self.path, "mask": self.path, "place": index, "label": label, "id": name}

    def _fit(self, mask: Tensor) -> Tensor:
        return stretch(mask, self.image_size, masks=True)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """Open the file, for each sample anew: an open one cannot be shared by the processes that read."""
        try:
            import h5py
        except ImportError as error:
            raise ImportError(f"{self.name} needs h5py: pip install 'sibx[segmentation]'") from error
        try:
            with h5py.File(self.path) as file:
                yield file
        except Exception as error:  # a file that is laid out otherwise may make h5py raise any
            raise OSError(f"{self.path.name} cannot be read as {LAYOUT}: {error}") from error


def _names(file: Any) -> list[str]:
    """Return a name for every image, numbered from 1; after the number what the file calls it, which it need not."""
    count = file["value/img"].size
    told = [_text(_cell(file, "id", index)) for index in range(count)] if "id" in file["value"] else [""] * count
    return [f"{number:04d} {name}".strip() for number, name in enumerate(told, start=1)]


def _text(values: np.ndarray) -> str:
    """Return characters, which MATLAB keeps as 16-bit numbers, as text; other values are no name."""
    return "".join(map(chr, values.ravel())) if values.dtype == np.uint16 else ""


def _cell(file: Any, field: str, index: int) -> np.ndarray:
    """Return the array of one image; a cell is a reference, of a mask to another cell."""
    cells = file[f"value/{field}"]
    cell = cells[np.unravel_index(index, cells.shape)]
    while True:
        array = file[cell]
        if array.dtype != object:
            return np.asarray(array)
        cell = array[0, 0]
