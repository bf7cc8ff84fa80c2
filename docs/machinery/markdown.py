"""Markdown: pages, tables, and what docstrings say in it."""

import inspect
import re
from collections.abc import Iterable


def page(parts: Iterable[str]) -> str:
    """Return a page of parts."""
    return "\n\n".join(parts) + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a docstring's words in Markdown: code in single backticks, and no character that means more elsewhere."""
    parts = re.split(r"``(.+?)``", text)
    return "".join(f"`{p}`" if i % 2 else re.sub(r"([|*_<$])", r"\\\1", p) for i, p in enumerate(parts))


def first_line(documented: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(documented) or "").splitlines()[0]
