"""What a page that is open looks at and asks, noted by the server: the page need not send it with every press."""

from threading import Lock
from typing import NamedTuple

from sibx.app._desk import Place, Seen

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

    Attributes:
        place: the picture that was asked for last, None before the first.
        question: what was asked last.
        shown: the picture that the page shows, None before the first.
        seen: the same, with what the networks say about it.
        rubbed: what was erased last: strokes, filling and class.
        lock: held by the request that computes: one page waits for its own answers.
    """

    def __init__(self, question: Question):
        self.question = question
        self.place: Place | None = None
        self.shown: Place | None = None
        self.seen: Seen | None = None
        self.rubbed: tuple[str, str, int] | None = None
        self.lock = Lock()
        self._press = 0
        self._turning = Lock()

    def __deepcopy__(self, _: object) -> "Visit":
        """Return a new visit: Gradio copies the first one for every page that is opened."""
        return Visit(self.question)

    def turn_to(self, place: Place, press: int) -> bool:
        """Note the picture that a press asks for, and return whether it is newer than every press before.

        Args:
            place: the picture.
            press: number of the press; those of a page grow.
        """
        with self._turning:
            if press <= self._press:
                return False
            self.place, self._press = place, press
            return True

    @property
    def asked(self) -> tuple[Place | None, Question]:
        """The picture and the question of the newest request."""
        return self.place, self.question
