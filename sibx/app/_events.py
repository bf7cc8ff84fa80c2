"""How the page sends what a visitor does: for the arguments of Gradio's events."""

from itertools import count
from typing import Any

import gradio as gr

# Short work waits for nobody else's: not for a training, and not for a look at all pictures. What is asked while the
# last answer is awaited is dropped: a press on a button that works already.
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
# Also before the last answer has come; the server may see such presses in another order: they have to say theirs.
OFTEN = AT_ONCE | {"trigger_mode": "multiple"}
# Not dropped, but asked when the last answer has come, with what the page says by then.
LATEST: dict[str, Any] = {"trigger_mode": "always_last"}
NEWEST = AT_ONCE | LATEST

_NUMBERS = count(1)


def ask_anew() -> gr.HTML:
    """Return a new number for a part of the page, which then asks for its content: see ``static/thumbnails.js``.

    Answers of two events may overtake each other, those of one do not: so what a part shows is answered to one event,
    whatever it is that asks for it.
    """
    return gr.HTML(asked=next(_NUMBERS))
