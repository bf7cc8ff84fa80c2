"""What has to be known to read a table of methods: which are one map on this network, and which reach a part of it."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sibx.evaluation.by_cell import ByCell
from sibx.evaluation.columns import CLASSIFIER, TRAINED, side_by_side
from sibx.evaluation.method_ranks import Array
from sibx.evaluation.ties import with_ties

PARTLY = "partly"  # key of run.json: methods that reach a part of the model only
TELLING = 3  # different values that a metric has to have: hits and misses are soon the same
Pairs = dict[tuple[str, str], list[str] | None]  # two methods -> metrics by which they are equal; None: not by all


def remarks(rows: ByCell, partly: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what ``Results.remarks`` says.

    Args:
        rows: the rows.
        partly: method and reason of those that reach a part of the model only.
    """
    said = dict.fromkeys((line["method"], line["reason"]) for line in partly)
    lines = [[*[""] * len(TRAINED), method, "", f"reaches a part of the model only: {why}"] for method, why in said]
    alike: dict[tuple[str, ...], Pairs] = {}
    for (*trained, metric), cell in rows.cells([*TRAINED, "metric"], {}):
        _compare(alike.setdefault(tuple(map(str, trained)), {}), str(metric), cell)
    for key, pairs in alike.items():
        named = set[str]()
        for (first, second), metrics in pairs.items():
            if metrics and second not in named:  # of three that are equal the others are like the first
                named.add(second)
                remark = f"has the same scores as {first} on every image: {', '.join(metrics)}"
                lines.append([*key, second, first, remark])
    return pd.DataFrame(lines, columns=[*TRAINED, "method", "same_as", "remark"])


def _compare(pairs: Pairs, metric: str, cell: pd.DataFrame) -> None:
    """Keep the pairs that are equal by one more metric; those that are first met here are taken in."""
    cell = cell[cell["method"].astype(str) != CLASSIFIER].astype({"method": str})
    if cell.empty:
        return
    methods = list(dict.fromkeys(cell["method"]))
    scores = with_ties(side_by_side(cell, ["seed", "image_id", "photo"], "method")[methods].to_numpy(copy=True))
    columns: dict[str, Array] = dict(zip(methods, scores.T, strict=True))
    for first, second in combinations(methods, 2):
        found = pairs.setdefault((first, second), [])
        if not np.array_equal(columns[first], columns[second], equal_nan=True):
            pairs[first, second] = None
        elif found is not None and len(np.unique(columns[first][~np.isnan(columns[first])])) >= TELLING:
            found.append(metric)
