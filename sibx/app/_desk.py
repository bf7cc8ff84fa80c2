"""What the tab "Explain" answers, without a browser: what networks say, why, and what they say without some pixels."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING

from sibx._checks import require
from sibx.app._cells import Thumbnail, erased_html, picture_uri, predictions_html, thumbnails_html, viewer_json
from sibx.app._eraser import Stroke, erase
from sibx.app._opinions import Opinion, ask, explain
from sibx.app._picked import UNKNOWN, Picture, picture_of
from sibx.app._survey import FOLDER, Survey

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench

AT_A_TIME = 12  # thumbnails
KEPT = 2 * AT_A_TIME  # pictures of the data set that need not be looked at again
LOOKS = count(1)
Place = int | Picture  # where a picture comes from: its index in the data set, or itself where it was dropped


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The picture that a visitor looks at, what the networks say about it, the picture as an address, and a number."""

    picture: Picture
    opinions: list[Opinion]
    uri: str
    number: int

    def target(self, chosen: int | None) -> int:
        """Return the class that is meant: the chosen one, else what the first network predicts."""
        return self.opinions[0].predicted if chosen is None else chosen


class Desk:
    """The networks and the data of a workbench, as they answer any visitor.

    Args:
        workbench: what is worked on.
    """

    def __init__(self, workbench: "Workbench"):
        self.networks, self.data, self._knows_labels = workbench.networks, workbench.data, workbench.knows_labels
        self.survey = Survey(self.networks, self.data, self._knows_labels, workbench.out_dir / FOLDER)
        self._seen = lru_cache(maxsize=KEPT)(self._look)  # of the data set alone: a dropped picture may be huge

    def see(self, place: Place) -> Seen:
        """Look at a picture.

        Raises:
            OSError, ValueError: a picture that cannot be read, or that a network does not take.
        """
        return self._seen(place) if isinstance(place, int) else self._look(place)

    def look_ahead(self, places: Sequence[Place], page: int) -> None:
        """Look at the pictures of a page of thumbnails, so that a press on one waits for its maps alone."""
        for place in _of_page(places, page):
            if isinstance(place, int):
                with suppress(OSError, ValueError):  # said when it is picked
                    self.see(place)

    def said(self, seen: Seen) -> str:
        """Return what the networks say about a picture, as HTML."""
        label = seen.picture.label if self._knows_labels else UNKNOWN
        return predictions_html(seen.picture, seen.opinions, label)

    def why(self, seen: Seen, target: int | None, rival: int | None, layer: str | None, methods: Sequence[str]) -> str:
        """Return why the networks say so, for the viewer.

        Args:
            seen: the picture.
            target: class to explain; None = the predicted one.
            rival: class to compare with; None = no other.
            layer: layer for CAMs; None = the last feature map.
            methods: keys of METHODS.

        Raises:
            ValueError: a class or a method that does not exist, or no method.
        """
        require(bool(methods), "methods", "name at least one", methods)
        meant, label = seen.target(target), self.networks[0].label
        question = f"why {label(meant)}" + ("" if rival is None else f" rather than {label(rival)}")
        rows = []
        for opinion in seen.opinions:
            maps = explain(opinion, methods, meant, rival, layer)
            rows.append((f"{opinion.network.name}: {question} ({float(opinion.rates[meant]):.1%})", maps))
        return viewer_json(seen.picture.pixels, seen.uri, rows)

    def without(self, seen: Seen, strokes: list[Stroke], fill: str, target: int | None) -> str:
        """Return what the networks say without the pixels under the strokes, as HTML; "" without a stroke.

        Args:
            seen: the picture.
            strokes: strokes on it.
            fill: key of FILLS.
            target: class that is followed; None = the predicted one.

        Raises:
            ValueError: another way to fill.
        """
        if not strokes:
            return ""
        found = [erase(opinion, strokes, fill) for opinion in seen.opinions]
        return erased_html(seen.opinions, found, seen.target(target))

    def strip(self, places: Sequence[Place], page: int) -> str:
        """Return a page of thumbnails, with what was found about each, as HTML."""
        dropped = sum(isinstance(place, Picture) for place in places)
        first = page * AT_A_TIME
        # A press names the picture, whatever stands at its place by then. Dropped ones count from the last of them, as
        # further ones come before them.
        numbers = [p if isinstance(p, int) else k - dropped for k, p in enumerate(_of_page(places, page), first)]
        return thumbnails_html(dict(zip(numbers, map(self._thumbnail, _of_page(places, page)), strict=True)))

    def _thumbnail(self, place: Place) -> Thumbnail:
        try:
            picture = self._picture(place)
        except (OSError, ValueError) as error:
            return Thumbnail(str(error), None, "cannot be read")
        found = self.survey.found(place) if isinstance(place, int) else None
        note = "" if found is None else " → ".join(f"{focus:.2f}" for focus in found.focus if focus == focus)
        wrong = found is not None and self._knows_labels and not all(found.right)
        words = ["wrong" if wrong else "", f"focus {note}" if note else ""]
        return Thumbnail(picture.name, picture.pixels, "; ".join(filter(None, words)) or picture.name)

    def _look(self, place: Place) -> Seen:
        picture = self._picture(place)
        opinions = [ask(network, picture.pixels) for network in self.networks]
        return Seen(picture, opinions, picture_uri(picture.pixels), next(LOOKS))

    def _picture(self, place: Place) -> Picture:
        return place if isinstance(place, Picture) else picture_of(self.data, place)


def _of_page(places: Sequence[Place], page: int) -> Sequence[Place]:
    return places[page * AT_A_TIME : (page + 1) * AT_A_TIME]
