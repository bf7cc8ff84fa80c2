r"""Tables of a report for a paper: a LaTeX file to ``\input``, or to take tables from."""

import re

from sibx.report.content import Content
from sibx.report.names import MINUS, mean_and_bounds, means_note
from sibx.report.paper import Cell, PaperTable, accuracy_table, classifier_tables, rate_tables, score_tables

HEAD = r"% Tables of sibx. The document needs \usepackage{booktabs} in its preamble."
# What LaTeX reads as a command, or sets as another character in its default encoding.
SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # which after a line's end would be an option of it
    "]": "{]}",
    MINUS: r"\ensuremath{-}",
    "\N{EN DASH}": "--",
    "\N{DAGGER}": r"\textdagger{}",
    "\N{MIDDLE DOT}": r"\textperiodcentered{}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
}
PATTERN = re.compile("|".join(map(re.escape, SPECIAL)))


def to_latex(content: Content) -> str:
    """Return all tables of a report, each a ``table`` with a caption and the label ``tab:sibx-<number>``."""
    tables = [
        *([accuracy_table(content)] if content.accuracies else []),
        *rate_tables(content),
        *score_tables(content),
        *classifier_tables(content),
    ]
    note = f"{escape(means_note(content.seeds))}; best in bold."
    return "\n\n".join([HEAD, *(_table(table, number, note) for number, table in enumerate(tables, start=1))]) + "\n"


def escape(text: str) -> str:
    """Return text that LaTeX sets as it is, on one line."""
    return PATTERN.sub(lambda found: SPECIAL[found[0]], " ".join(text.split()))


def _table(table: PaperTable, place: int, note: str) -> str:
    heads = " & ".join(map(escape, (table.corner, *table.columns)))
    lines = [
        "    "
        + " & ".join([escape(name), *(_cell(cell, (row, column) in table.best) for column, cell in enumerate(cells))])
        + r" \\"
        for row, (name, cells) in enumerate(table.lines)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(table.title)}. {note}}}",
            rf"  \label{{tab:sibx-{place}}}",
            rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"    \toprule",
            rf"    {heads} \\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _cell(cell: Cell, best: bool) -> str:
    if cell is None or not cell.n:
        return "undefined" if cell else "--"
    mean, bounds = (part.replace(MINUS, SPECIAL[MINUS]) for part in mean_and_bounds(cell))
    undefined = f" ({cell.undefined} undefined)" if cell.undefined else ""
    shown = rf"\textbf{{{mean}}}" if best else mean
    return rf"{shown} {{\scriptsize {bounds}}}{undefined}"
