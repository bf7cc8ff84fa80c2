"""Corrected pictures in a folder that every command reads as ``--dataset folder``; whatever was drawn is kept at once.

- ``data.json``: which pictures these belong to;
- ``strokes/<id>.json``: everything that was drawn on a picture; the masks follow from it;
- ``index.csv``: the corrected pictures, with ``images/<id>.png``, ``masks/<id>.png`` and ``undefined/<id>.png``.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sibx._checks import require
from sibx._files import LONGEST_NAME, shortened, write_atomically
from sibx.app._strokes import RESTS, Drawn, Imported, Rest, Stroke, draw_mask, png_of, read_stroke, to_plain
from sibx.datasets import MaskedDataset
from sibx.datasets.folder_masks import to_mask
from sibx.images.geometry import resize_and_center_crop
from sibx.images.pixels import as_colors
from sibx.images.reading import Once, check_size, naming
from sibx.runs.alone import alone_in

COLUMNS = ("image", "mask", "label", "split", "group", "undefined", "id", "version")
MOST_STROKES = 5000  # on one picture

Picture = npt.NDArray[np.uint8]  # (H, W, 3)


class SavedMeanwhileError(ValueError):
    """Somebody else has drawn on the picture since this version of it was shown; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was drawn on one picture.

    Attributes:
        strokes: everything, in its order.
        rest: what is true of pixels that no stroke touched, see ``draw_mask``.
        version: how often it was changed.
    """

    strokes: tuple[Stroke, ...] = ()
    rest: Rest = "away"
    version: int = 0


class Corrections:
    """Masks that were drawn on the pictures of a data set, in a folder of their own; the pictures stay as they are.

    Every change is on the disk before it is answered, complete or not at all, and names the version of the picture that
    it was made on: one made on an older version than the newest is refused, so that several pages, and several
    processes, lose nothing of each other's.

    Args:
        folder: where they are kept; made with the first stroke.
        data: the pictures, of one label each.

    Raises:
        ValueError: pictures of several labels each, or a folder with corrections of other pictures.
    """

    def __init__(self, folder: Path, data: MaskedDataset):
        require(not data.several_labels, "data", "have one label per picture to be corrected", data.name)
        self.folder, self.data = folder, data
        about = self._about()
        if (folder / "data.json").is_file():
            found = json.loads((folder / "data.json").read_text(encoding="utf-8"))
            require(found == about, "out", f"hold corrections of {about}", found)
        self._mend()

    @property
    def count(self) -> int:
        """Number of corrected pictures, whose masks a network can learn from."""
        return len(self._rows())

    def corrected(self) -> list[int]:
        """Return the indices of the corrected pictures, in the order in which they were first corrected."""
        return [self._places[name] for name in self._rows() if name in self._places]

    def picture(self, index: int) -> Picture:
        """Return a picture as the network sees it, in colors."""
        pixels = as_colors(self.data.normalization.inverse(self.data[index].image).unsqueeze(0))[0]
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def sheet(self, index: int) -> Sheet:
        """Return what was drawn on a picture."""
        return _read(self._strokes_of(index))

    def drawn(self, index: int) -> Drawn:
        """Return the mask that was drawn on a picture."""
        sheet = self.sheet(index)
        return draw_mask(sheet.strokes, self.picture(index), sheet.rest)

    def add(self, index: int, stroke: Stroke, version: int) -> Sheet:
        """Draw a stroke on a version of a picture; return what is there then.

        Raises:
            SavedMeanwhileError: there is a newer version.
            ValueError: a stroke that does not fit the picture, or too many.
        """
        sheet = self.sheet(index)
        require(len(sheet.strokes) < MOST_STROKES, "stroke", f"be one of at most {MOST_STROKES}", len(sheet.strokes))
        return self._keep(index, replace(sheet, strokes=(*sheet.strokes, stroke)), version)

    def undo(self, index: int, version: int) -> Sheet:
        """Take back the last stroke on a version of a picture.

        Raises:
            SavedMeanwhileError: there is a newer version.
        """
        sheet = self.sheet(index)
        return self._keep(index, replace(sheet, strokes=sheet.strokes[:-1]), version)

    def choose(self, index: int, rest: Rest, version: int) -> Sheet:
        """Say what is true of the pixels of a picture that no stroke touched.

        Raises:
            SavedMeanwhileError: there is a newer version.
            ValueError: something else than ``draw_mask`` knows.
        """
        require(rest in RESTS, "rest", f"be one of {', '.join(RESTS)}", rest)
        return self._keep(index, replace(self.sheet(index), rest=rest), version)

    def take_mask(self, index: int, file: bytes, version: int) -> Sheet:
        """Take over a mask from a picture file: of the size of the picture, or of another one with its proportions.

        What is the object in a file is said under "A folder of pictures" in the guide to own data.

        Raises:
            SavedMeanwhileError: there is a newer version.
            ValueError: a file that is no picture, or too large.
        """
        size = self.picture(index).shape[:2]
        try:
            with naming("of a mask"), Image.open(io.BytesIO(file)) as picture:
                check_size(picture)
                mask = to_mask(picture, "the mask", Once())
        except OSError as error:
            raise ValueError(f"`mask` must be a file of a picture, but got another one: {error}") from error
        fitted = resize_and_center_crop(mask, (size[0], size[1]), masks=True)[0].numpy()
        return self.add(index, Imported.of(fitted), version)

    def masks(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Return mask and undefined pixels, (1, H, W) bool each, of all corrected pictures by their index."""
        found = {}
        for index in self.corrected():
            drawn = self.drawn(index)
            found[index] = (torch.from_numpy(drawn.mask)[None], torch.from_numpy(drawn.undefined)[None])
        return found

    def _keep(self, index: int, sheet: Sheet, version: int) -> Sheet:
        """Write the next version: first the strokes, which everything else can be made of again."""
        drawn = draw_mask(sheet.strokes, self.picture(index), sheet.rest)
        sheet = replace(sheet, version=version + 1)
        with alone_in(self.folder, "out"):
            there = self.sheet(index).version
            if there != version:
                raise SavedMeanwhileError(
                    f"`version` must be {there}, the newest of this picture, but got {version}: "
                    "somebody else has drawn on it meanwhile."
                )
            write_atomically(self.folder / "data.json", _json(self._about()))
            write_atomically(self._strokes_of(index), _json(_plain(sheet)))
            self._write_files(index, sheet, drawn)
        return sheet

    def _write_files(self, index: int, sheet: Sheet, drawn: Drawn) -> None:
        """Write what other programs read; a picture that nothing can be learned from leaves the index."""
        name, rows = self._name(index), self._rows()
        rows.pop(name, None)
        if not drawn.missing:
            image, mask, undefined = (f"{folder}/{name}.png" for folder in ("images", "masks", "undefined"))
            if not (self.folder / image).is_file():
                write_atomically(self.folder / image, picture_file(self.picture(index)))
            write_atomically(self.folder / mask, png_of(drawn.mask))
            if drawn.undefined.any():
                write_atomically(self.folder / undefined, png_of(drawn.undefined))
            sample = self.data[index]
            rows[name] = {
                "image": image,
                "mask": mask,
                "label": label_name(self.data, index),
                "split": "train",
                "group": str(sample.group),
                "undefined": undefined if drawn.undefined.any() else "",
                "id": sample.id,
                "version": str(sheet.version),
            }
        write_atomically(self.folder / "index.csv", table_file(list(rows.values()), COLUMNS))

    def _rows(self) -> dict[str, dict[str, str]]:
        """Return the lines of the index by the name of the picture's files."""
        path = self.folder / "index.csv"
        if not path.is_file():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            return {Path(row["image"]).stem: row for row in csv.DictReader(file)}

    def _mend(self) -> None:
        """Write again what a server that was killed between two files has not written."""
        rows, drawn_on = self._rows(), sorted((self.folder / "strokes").glob("*.json"))
        for path in (path for path in drawn_on if path.stem in self._places):
            index, sheet = self._places[path.stem], _read(path)
            drawn = self.drawn(index)
            written = rows.get(path.stem, {"version": ""})["version"] == str(sheet.version)
            if not (written or (drawn.missing and path.stem not in rows)):
                with alone_in(self.folder, "out"):
                    self._write_files(index, sheet, drawn)

    def _strokes_of(self, index: int) -> Path:
        return self.folder / "strokes" / f"{self._name(index)}.json"

    def _name(self, index: int) -> str:
        return file_name(self.data, index)

    @cached_property
    def _places(self) -> dict[str, int]:
        """Names of files -> the indices of their pictures; others may come and go, these keep their strokes."""
        return {self._name(index): index for index in range(len(self.data))}

    def _about(self) -> dict[str, Any]:
        return {"dataset": self.data.name, "split": self.data.split, "classes": list(self.data.classes)}


def file_name(data: MaskedDataset, index: int) -> str:
    """Return what the files of a picture are called, without ending: its id, less what no file may be called."""
    return shortened(quote(str(data.origin_of(index)["id"]), safe=""), LONGEST_NAME - 40)


def corrections_folder(out_dir: Path) -> Path:
    """Return where the corrections of a workbench lie."""
    return out_dir / "corrections"


def picture_file(picture: Picture) -> bytes:
    """Return a picture (H, W, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def table_file(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> bytes:
    """Return lines as a CSV file."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def label_name(data: MaskedDataset, index: int) -> str:
    """Return the name of a picture's class."""
    return data.classes[int(data.label_of(index))]


def _read(path: Path) -> Sheet:
    if not path.is_file():
        return Sheet()
    found = json.loads(path.read_text(encoding="utf-8"))
    return Sheet(tuple(read_stroke(plain) for plain in found["strokes"]), found["rest"], found["version"])


def _plain(sheet: Sheet) -> dict[str, Any]:
    return {"version": sheet.version, "rest": sheet.rest, "strokes": [to_plain(stroke) for stroke in sheet.strokes]}


def _json(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()
