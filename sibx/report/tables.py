"""Summaries as text tables."""

from collections.abc import Sequence

import pandas as pd

from sibx._checks import check_choice
from sibx.evaluation import Interval


def metric_table(
    summary: pd.DataFrame, metric: str, *, columns: str = "training", order: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one metric with a line per method and a column per training, as ``mean [low, high]``.

    Args:
        summary: ``Results.summary()`` of one data set and split.
        metric: name of the metric.
        columns: the column of the summary that is spread over the table's columns.
        order: order of the columns; by default as they come.

    A number of undefined images follows in parentheses where there are any; a cell without a value is ``undefined``.

    Raises:
        ValueError: a metric that is not in the summary.
    """
    check_choice("metric", metric, tuple(summary["metric"].unique()))
    lines = summary[summary["metric"] == metric]
    text = lines.apply(_cell, axis=1)
    wide = lines.assign(text=text).pivot(index="method", columns=columns, values="text")
    return wide.loc[list(dict.fromkeys(lines["method"])), list(order or dict.fromkeys(lines[columns]))]


def to_markdown(table: pd.DataFrame, corner: str = "") -> str:
    """Return the table as GitHub Markdown, columns padded so that it also reads as plain text."""
    lines = [[corner, *map(str, table.columns)]]
    lines += [[str(index), *map(str, row)] for index, row in zip(table.index, table.to_numpy(), strict=True)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * w for w in widths])
    return "\n".join("| " + " | ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _cell(line: pd.Series) -> str:
    interval = Interval.of(line)
    return f"{interval} ({interval.undefined} undefined)" if interval.n and interval.undefined else f"{interval}"
