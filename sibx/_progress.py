"""Progress bars: the one place that says when they are shown."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar_over(items: Iterable[Any] | None, title: str | None = None, *, shown: bool, **options: Any) -> "tqdm[Any]":
    """Return a progress bar on stderr; in files, pipes and notebooks, where it would fill pages, it stays away.

    Args:
        items: what the bar goes over; None = it is moved by hand, and ``options`` has its ``total``.
        title: what stands before it.
        shown: whether it is shown where stderr is a terminal.
        **options: further options of tqdm.
    """
    return tqdm(items, desc=title, disable=None if shown else True, **{"leave": False, **options})
