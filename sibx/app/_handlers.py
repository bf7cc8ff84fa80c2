"""What happens when a visitor does something in the tab "Explain": from the page's values to the parts that change."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from sibx.app._cells import problem_html
from sibx.app._desk import AT_A_TIME, Desk, Place, Seen
from sibx.app._picked import read_dropped
from sibx.app._survey import AS_THEY_COME

NONE = -1  # no choice of a dropdown, whose values are all of one kind
Parts = tuple[Any, ...]  # new values of parts of the page


class Explaining:
    """The handlers; what goes wrong becomes the value of the part for problems, and the other parts stay.

    Args:
        desk: what answers.
    """

    def __init__(self, desk: Desk):
        self._desk = desk

    def show(self, place: Place, *asked: Any) -> Parts:
        """Return what is seen, what is said about it, the eraser's picture, an empty answer of it, and why."""
        try:
            seen = self._desk.see(place)
        except (OSError, ValueError) as error:
            return *_as_before(5), problem_html(str(error))
        return seen, self._desk.said(seen), gr.HTML(value="[]", picture=seen.uri), "", *self.why(seen, *asked)

    def pick(self, event: gr.EventData, places: list[Place], page: int, *asked: Any) -> Parts:
        """Show the picture whose thumbnail was pressed."""
        place = page * AT_A_TIME + int(event._data["index"])
        if not 0 <= place < len(places):
            return _as_before(6)
        return self.show(places[place], *asked)

    def drop(self, files: list[str], places: list[Place], *asked: Any) -> Parts:
        """Put dropped pictures before the others and show the first; those that cannot be read are named."""
        read, problems = [], []
        for file in files:
            try:
                read.append(read_dropped(file))
            except OSError as error:
                problems.append(problem_html(str(error)))
        shown = self.show(read[0], *asked) if read else _as_before(6)
        return *shown, "".join(problems), [*read, *places], 0

    def why(self, seen: Seen | None, target: int, rival: int, layer: str, methods: list[str]) -> tuple[str, str]:
        """Return the maps, and the problem, which leaves no maps of another picture on the page."""
        try:
            return (self._desk.why(seen, _given(target), _given(rival), layer or None, methods) if seen else ""), ""
        except ValueError as error:
            return "", problem_html(str(error))

    def rub(self, seen: Seen | None, strokes: str, fill: str, target: int) -> tuple[str, str]:
        """Return what is said without the pixels under the strokes, and the problem."""
        try:
            return (self._desk.without(seen, strokes, fill, _given(target)) if seen else ""), ""
        except ValueError as error:
            return "", problem_html(str(error))

    def sort(self, order: str) -> Iterator[Parts]:
        """Look at all pictures, and say how far that is; then return what went wrong, the places, and the page."""
        for done in self._desk.survey.look() if order != AS_THEY_COME else ():
            yield f"<p>{done:.0%} looked at</p>", *_as_before(2)
        problems = "".join(map(problem_html, self._desk.survey.problems()))
        yield problems, self._desk.survey.order(order), 0

    def strip(self, places: list[Place], page: int) -> str:
        """Return the thumbnails of a page."""
        return self._desk.strip(places, page)

    def look_ahead(self, places: list[Place], page: int) -> None:
        """Look at the pictures of a page before one is picked."""
        self._desk.look_ahead(places, page)

    def back(self, page: int) -> int:
        """Return the page before."""
        return max(0, page - 1)

    def more(self, places: list[Place], page: int) -> int:
        """Return the next page."""
        return min(page + 1, max(0, (len(places) - 1) // AT_A_TIME))


def _given(choice: int) -> int | None:
    return None if choice == NONE else choice


def _as_before(count: int) -> Parts:
    return (gr.skip(),) * count
