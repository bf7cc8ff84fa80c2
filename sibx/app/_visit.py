"""What a page that is open looks at and asks, noted by the server: the page need not send it with every press."""

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from sibx.app._desk import AT_A_TIME, Place, Seen
from sibx.app._picked import Picture

NONE = -1  # no choice of a dropdown, whose values are all of one kind


class Question(NamedTuple):
    """What is asked about a picture, as the page's dropdowns say it.

    Attributes:
        target: class to explain, NONE = the predicted one.
        rival: class to compare with, NONE = no other.
        layer: layer for CAMs, "" = the last one.
        methods: keys of METHODS.
    """

    target: int
    rival: int
    layer: str
    methods: tuple[str, ...]


class Visit:
    """What one open page looks at and asks; its requests, which may overtake each other, all see the newest.

    Args:
        question: what it asks in the beginning.
        order: all pictures of the data set in the order of the beginning.

    Attributes:
        order: the pictures of the data set in their order.
        dropped: the visitor's own pictures, the newest first; they stand before the others.
        page: number of the thumbnails that are shown.
        place: the picture that was asked for last, None before the first.
        question: what was asked last.
        shown: the picture that the page shows, None before the first.
        seen: the same, with what the networks say about it.
        rubbed: what was erased last: strokes, filling and class.
        lock: held by the request that computes: one page waits for its own answers.
    """

    def __init__(self, question: Question, order: Sequence[int]):
        self.question = question
        self.order, self._pictures = order, len(order)
        self.dropped: list[Picture] = []
        self.page = 0
        self.place: Place | None = None
        self.shown: Place | None = None
        self.seen: Seen | None = None
        self.rubbed: tuple[str, str, int] | None = None
        self.lock = Lock()
        self._press = 0
        self._turns = 0
        self._files: list[str] = []
        self._turning = Lock()

    def __deepcopy__(self, _: object) -> "Visit":
        """Return a new visit: Gradio copies the first one for every page that is opened."""
        return Visit(self.question, self.order)

    @property
    def places(self) -> list[Place]:
        """All pictures, in the order of their thumbnails."""
        return [*self.dropped, *self.order]

    def place_of(self, number: int) -> Place | None:
        """Return the picture that a thumbnail names, None if there is none."""
        if number < 0:
            return self.dropped[number] if -number <= len(self.dropped) else None
        return number if number < self._pictures else None

    def sort(self, order: Sequence[int]) -> None:
        """Note another order, and turn to its first page."""
        with self._turning:
            self.order, self.page = order, 0

    def leaf(self, pages: int) -> None:
        """Turn so many pages, at most to the first or the last one."""
        with self._turning:
            last = max(0, (len(self.places) - 1) // AT_A_TIME)
            self.page = min(max(0, self.page + pages), last)

    def receive(self, files: list[str]) -> tuple[list[str], int]:
        """Return those of the page's files that are new, at least the last one, and the number of the turn."""
        with self._turning:
            new = [file for file in files if file not in self._files] or files[-1:]
            self._files, self._turns = files, self._turns + 1
            return new, self._turns

    def put_first(self, pictures: Sequence[Picture], turn: int) -> bool:
        """Put dropped pictures before the others; return whether nothing else was picked since they were dropped.

        Args:
            pictures: the pictures.
            turn: number of the turn, from ``receive``.
        """
        with self._turning:
            self.dropped, self.page = [*pictures, *self.dropped], 0
            if turn == self._turns:
                self.place = pictures[0]
            return turn == self._turns

    def turn_to(self, place: Place, press: int) -> bool:
        """Note the picture that a press asks for, and return whether it is newer than every press before.

        Args:
            place: the picture.
            press: number of the press; those of a page grow.
        """
        with self._turning:
            if press <= self._press:
                return False
            self.place, self._press, self._turns = place, press, self._turns + 1
            return True

    @property
    def asked(self) -> tuple[Place | None, Question]:
        """The picture and the question of the newest request."""
        return self.place, self.question
