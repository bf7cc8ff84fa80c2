"""What a notebook shows of Results."""

from itertools import islice
from typing import TYPE_CHECKING

from sibx._for_notebooks import html_table
from sibx.evaluation.columns import CELL, IMAGE
from sibx.evaluation.statistics import Interval
from sibx.evaluation.summaries import summarize

if TYPE_CHECKING:
    from sibx.evaluation.results import Results

MOST = 40  # lines of the table: the first ones, so that large results are shown as quickly as small ones


def to_html(results: "Results") -> str:
    """Return how many images there are, what all scores have in common, and their means with 95 % intervals."""
    lines = summarize(islice(results.cells(), MOST + 1), CELL)
    images, trained = len(results.distinct(*IMAGE)), results.distinct(*CELL[:-2])
    shared = [name for name in trained if trained[name].nunique() == 1]
    same = [f"{name} {trained[name].iloc[0]}" for name in shared if trained[name].iloc[0]]
    several = [f"{trained[n].nunique()} {n}s" for n in trained if n not in shared]
    columns = [name for name in CELL if name not in shared]
    table = [
        [*(str(line[name]) for name in columns), f"{Interval.of(line)}", str(line["n"]), str(line["undefined"])]
        for line in lines.head(MOST).to_dict("records")
    ]
    note = f"<p>the first {MOST} of them: <code>summary()</code> has all</p>" if len(lines) > MOST else ""
    about = html_table(("Results", ""), [("images", str(images)), ("of", ", ".join([*same, *several]))])
    return about + html_table((*columns, "mean [95 % interval]", "n", "undefined"), table) + note
