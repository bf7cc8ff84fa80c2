"""One style for all figures, in colors that every kind of color vision tells apart.

Series differ by dash or hatch as well as by color, so that they are told apart in gray, too.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

from matplotlib import rc_context

SEQUENTIAL, DIVERGING = "inferno", "RdBu_r"  # maps from 0 up; maps around 0
# Text and axes, and the grid. No data is drawn in these two, so that a page can replace them for its dark form.
INK, FAINT = "#1b1f24", "#c9ced6"
RC: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a name between dollars is a name
    "lines.linewidth": 1.5,
}


class Look(NamedTuple):
    """How one series is drawn."""

    color: str
    dash: Any  # of matplotlib
    hatch: str


# The first is for the series that the others are compared with. Colors: gray, and those of Okabe and Ito 2008.
_LOOKS = (
    Look("#858d98", (0, (5, 2)), ""),
    Look("#0072B2", "solid", "//"),
    Look("#D55E00", (0, (6, 1, 1, 1)), "\\\\"),
    Look("#009E73", (0, (1, 1)), ".."),
    Look("#CC79A7", (0, (3, 1)), "xx"),
    Look("#56B4E9", (0, (3, 1, 1, 1, 1, 1)), "--"),
    Look("#E69F00", (0, (9, 2)), "||"),
)


def styled() -> AbstractContextManager[None]:
    """Return the context in which a figure is made; nothing outside of it changes."""
    return rc_context(cast(Any, dict(RC)))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give every name its look; beyond seven they repeat."""
    return {name: _LOOKS[i % len(_LOOKS)] for i, name in enumerate(names)}
