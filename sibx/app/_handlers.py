"""What happens when a visitor does something in the tab "Explain": from the page's values to the parts that change."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from sibx.app._cells import problem_html
from sibx.app._desk import Desk, Place, Seen
from sibx.app._eraser import read_strokes
from sibx.app._events import ask_anew
from sibx.app._picked import read_dropped
from sibx.app._survey import AS_THEY_COME, Survey
from sibx.app._visit import NONE, Question, Visit

FIRST = 0  # the picture that a page begins with
FORGOTTEN = "The server has forgotten this page, as many others were opened since: reload it."
Parts = tuple[Any, ...]  # new values of parts of the page


class Explaining:
    """The handlers; what goes wrong becomes the value of the part for problems, and the other parts stay.

    What a visitor asks for is noted in the visit before it is answered. An answer that comes late, to what is no longer
    asked, leaves the page as it is.

    Args:
        desk: what answers.
    """

    def __init__(self, desk: Desk):
        self._desk = desk

    def begin(self, visit: Visit) -> Parts:
        """Show the first picture of a page that was opened, and ask for the thumbnails."""
        visit.place = FIRST
        return *self._show(visit, FIRST), ask_anew()

    def pick(self, event: gr.EventData, visit: Visit) -> Parts:
        """Show the picture whose thumbnail was pressed."""
        if visit.place is None:
            return *_as_before(4), problem_html(FORGOTTEN)
        place = visit.place_of(int(event._data["place"]))
        if place is None or not visit.turn_to(place, int(event._data["press"])):
            return _as_before(5)
        return self._show(visit, place)

    def drop(self, files: list[str], visit: Visit) -> Parts:
        """Put dropped pictures before the others and show the first; those that cannot be read are named."""
        if visit.place is None:
            return *_as_before(4), problem_html(FORGOTTEN), *_as_before(2)
        new, turn = visit.receive(files)
        read, problems = [], []
        for file in new:
            try:
                read.append(read_dropped(file))
            except OSError as error:
                problems.append(problem_html(str(error)))
        shown = self._show(visit, read[0]) if read and visit.put_first(read, turn) else _as_before(5)
        return *shown, "".join(problems), ask_anew()

    def ask(self, visit: Visit, target: int, rival: int, layer: str, methods: list[str]) -> Parts:
        """Return the maps that answer a question about the picture, and the problem."""
        visit.question = Question(target, rival, layer, tuple(methods))
        return self._why(visit)

    def rub(self, visit: Visit, strokes: str, fill: str, target: int) -> Any:
        """Return what is said without the pixels under the strokes, or what is wrong with them."""
        seen = visit.seen
        if seen is None:  # of a page whose first picture cannot be read nothing is erased
            return problem_html(FORGOTTEN) if visit.place is None else gr.skip()
        rubbed = visit.rubbed = (strokes, fill, target)
        with visit.lock:
            try:
                there = [stroke for stroke in read_strokes(strokes) if stroke.of == seen.number]
                answer = self._desk.without(seen, there, fill, _given(target))
            except ValueError as error:
                answer = problem_html(str(error))
        return answer if (visit.seen, visit.rubbed) == (seen, rubbed) else gr.skip()

    def sort(self, visit: Visit, order: str) -> Iterator[Parts]:
        """Look at all pictures, and say how far that is; then say what went wrong, and ask for the thumbnails."""
        for said, places in sorting(self._desk.survey, order):
            if places is not None:
                visit.sort(places)
            yield said, gr.skip() if places is None else ask_anew()

    def strip(self, visit: Visit) -> str:
        """Return the thumbnails of the page that is turned to."""
        return self._desk.strip(visit.places, visit.page)

    def look_ahead(self, visit: Visit) -> None:
        """Look at the pictures of that page before one is picked."""
        self._desk.look_ahead(visit.places, visit.page)

    def back(self, visit: Visit) -> gr.HTML:
        """Turn to the page before, and ask for its thumbnails."""
        visit.leaf(-1)
        return ask_anew()

    def more(self, visit: Visit) -> gr.HTML:
        """Turn to the next page, and ask for its thumbnails."""
        visit.leaf(1)
        return ask_anew()

    def _show(self, visit: Visit, place: Place) -> Parts:
        """Return what is said about the picture that is asked for, the eraser's picture, maps, and the problem."""
        try:
            seen = self._seen(visit, place)
        except (OSError, ValueError) as error:
            if visit.place == place and visit.shown is not None:
                visit.place = visit.shown  # whatever was asked for in between: its answer would hide the problem
            return *_as_before(4), problem_html(str(error))
        maps = self._why(visit)
        if visit.place != place:
            return _as_before(5)
        other = visit.seen is not seen  # pressed again, the same picture keeps its strokes
        visit.shown, visit.seen = place, seen
        erased = (gr.HTML(value="[]", picture=seen.uri, of=seen.number), "") if other else _as_before(2)
        return self._desk.said(seen), *erased, *maps

    def _why(self, visit: Visit) -> Parts:
        """Return maps and problem, which leaves no maps of another picture on the page."""
        place, question = asked = visit.asked
        if place is None:
            return "", problem_html(FORGOTTEN)
        with visit.lock:
            if visit.asked != asked:  # while this one waited
                return _as_before(2)
            try:
                target, rival, layer, methods = question
                seen = self._seen(visit, place)
                answer = self._desk.why(seen, _given(target), _given(rival), layer or None, methods), ""
            except (OSError, ValueError) as error:
                answer = "", problem_html(str(error))
        return answer if visit.asked == asked else _as_before(2)

    def _seen(self, visit: Visit, place: Place) -> Seen:
        """Look at a picture, unless the page shows it already: a dropped one is kept nowhere else."""
        return visit.seen if visit.seen is not None and visit.seen.picture is place else self._desk.see(place)


def sorting(survey: Survey, order: str) -> Iterator[tuple[str, list[int] | None]]:
    """Yield how far the look at all pictures is; at last what went wrong, and the pictures in an order."""
    for done in survey.look() if order != AS_THEY_COME else ():
        yield f"<p>{done:.0%} looked at</p>", None
    yield "".join(map(problem_html, survey.problems())), survey.order(order)


def _given(choice: int) -> int | None:
    return None if choice == NONE else choice


def _as_before(count: int) -> Parts:
    return (gr.skip(),) * count
