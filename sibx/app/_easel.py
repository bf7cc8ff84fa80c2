"""What the page is told while somebody draws: every question and every answer is one object of JSON."""

import base64
import binascii
import io
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from sibx._checks import check_choice, check_integer, require
from sibx.app._corrections import Corrections, SavedMeanwhileError, Sheet, label_name, picture_file
from sibx.app._strokes import AWAY, RESTS, Drawn, draw_mask, labels_of, read_stroke

# Of Okabe and Ito, which people with any color vision tell apart; the last value is the opacity of 255.
HERE_COLOR, AWAY_COLOR = (0, 158, 115, 130), (213, 94, 0, 130)
LARGEST_FILE = 2**25  # bytes of a mask, as base 64

Answer = dict[str, Any]


class Easel:
    """Answers the page's drawing board.

    Args:
        corrections: where everything that is drawn is kept.
    """

    def __init__(self, corrections: Corrections):
        self._corrections, self._lock = corrections, Lock()

    def answer(self, asked: object) -> Answer:
        """Do what the page asks for, and say how the picture is then.

        What goes wrong is said under ``problem``, and nothing is changed then: the rest says how the picture is.

        Args:
            asked: ``picture`` (its number, from 0), ``do`` (``open``, ``stroke``, ``undo``, ``rest`` or ``mask``), the
                ``version`` that is seen, and what is drawn or chosen under the name of what is done.
        """
        with self._lock:
            picture = 0
            try:
                require(isinstance(asked, Mapping), "asked", "be an object", asked)
                assert isinstance(asked, Mapping)
                picture = self._number(asked.get("picture"))
                return self._tell(picture, self._do(picture, asked), opened=asked.get("do") == "open")
            except SavedMeanwhileError:
                return self._refuse(picture, "Somebody else has drawn on it meanwhile; here is what is there now.")
            except (OSError, ValueError) as error:
                return self._refuse(picture, str(error))

    def _refuse(self, picture: int, problem: str) -> Answer:
        """Say how a picture is, and what went wrong; of one that cannot be read there is nothing else to say."""
        try:
            return self._tell(picture, self._corrections.sheet(picture), opened=True) | {"problem": problem}
        except (OSError, ValueError) as error:
            return {"picture": picture, "pictures": len(self._corrections.data), "problem": str(error)}

    def _number(self, picture: object) -> int:
        last = len(self._corrections.data) - 1
        good = isinstance(picture, int) and not isinstance(picture, bool) and 0 <= picture <= last
        require(good, "picture", f"be a number from 0 to {last}", picture)
        return int(str(picture))

    def _do(self, picture: int, asked: Mapping[str, Any]) -> Sheet:
        kept, do = self._corrections, str(asked.get("do"))
        check_choice("do", do, ("open", "stroke", "undo", "rest", "mask"))
        if do == "open":
            return kept.sheet(picture)
        check_integer("version", asked.get("version"), 0)
        version = int(asked["version"])
        if do == "stroke":
            return kept.add(picture, read_stroke(asked.get("stroke")), version)
        if do == "undo":
            return kept.undo(picture, version)
        if do == "mask":
            return kept.take_mask(picture, _read_file(asked.get("mask")), version)
        check_choice("rest", asked.get("rest"), tuple(RESTS))
        return kept.choose(picture, asked["rest"], version)

    def _tell(self, picture: int, sheet: Sheet, *, opened: bool) -> Answer:
        kept = self._corrections
        pixels = kept.picture(picture)
        drawn = draw_mask(sheet.strokes, pixels, sheet.rest)
        told = {
            "picture": picture,
            "pictures": len(kept.data),
            "corrected": kept.count,
            "id": str(kept.data.origin_of(picture)["id"]),
            "label": label_name(kept.data, picture),
            "version": sheet.version,
            "strokes": len(sheet.strokes),
            "rest": sheet.rest,
            "missing": drawn.missing,
            "overlay": _uri(_overlay(sheet, drawn)),
            "problem": "",
        }
        return told | ({"image": _uri(picture_file(pixels))} if opened else {})


def _overlay(sheet: Sheet, drawn: Drawn) -> bytes:
    """Return a PNG file of the picture's size: where the network may look, and where it was said that it may not."""
    size = (drawn.mask.shape[0], drawn.mask.shape[1])
    labels = labels_of(sheet.strokes, size)
    colors = np.zeros((*size, 4), np.uint8)
    colors[labels == AWAY] = AWAY_COLOR
    colors[drawn.mask & ~drawn.undefined] = HERE_COLOR
    file = io.BytesIO()
    Image.fromarray(colors).save(file, "PNG")
    return file.getvalue()


def _uri(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def _read_file(text: object) -> bytes:
    require(isinstance(text, str) and len(text) <= LARGEST_FILE, "mask", "be a file of at most 24 MB", type(text))
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        raise ValueError(f"`mask` must be a file in base 64, but got another text: {error}.") from error
