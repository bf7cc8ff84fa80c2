"""Tables that notebooks show."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from torch import Tensor


def html_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table as HTML; every text is escaped."""
    rows = [_row("th", head), *(_row("td", line) for line in lines)]
    return f"<table>{''.join(rows)}</table>"


def html_of_terms(terms: Mapping[str, Tensor]) -> str:
    """Return the values of scalars, and the shapes of other tensors, as a table in HTML."""
    values = ((name, f"{float(t.detach()):.4g}" if t.ndim == 0 else f"{tuple(t.shape)}") for name, t in terms.items())
    return html_table(("term", "value"), values)


def _row(kind: str, texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(text)}</{kind}>' for text in texts)}</tr>"
