"""Methods compared with each other over the same images, pair by pair."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pandas as pd

from sibx._checks import check_choice, require
from sibx.evaluation.by_cell import ByCell
from sibx.evaluation.columns import TRAINED, side_by_side
from sibx.evaluation.gain import paired_gain
from sibx.evaluation.method_ranks import direction_of
from sibx.evaluation.significance import holm
from sibx.evaluation.ties import with_ties

BEST = "best"
Pair = tuple[str, str]  # a method and the one that it is compared with


def compare_methods(rows: ByCell, metric: str, reference: str | None, higher_is_better: bool | None) -> pd.DataFrame:
    """Return what ``Results.between_methods`` says."""
    check_choice("metric", metric, tuple(rows.distinct(["metric"])["metric"]))
    higher = direction_of(metric, higher_is_better) if reference == BEST else True
    tables = []
    for key, cell in rows.cells(TRAINED, {"metric": [metric]}):
        scores = _side_by_side(cell)
        methods = [str(name) for name in scores]
        require(len(methods) >= 2, "rows", "have at least two methods to compare", methods)
        if reference not in (None, BEST):
            check_choice("reference", reference, (BEST, *methods))
        pairs = list(_pairs(scores, reference, higher))
        lines = [_line(dict(zip(TRAINED, key, strict=True)), metric, pair, scores) for pair in pairs]
        table = pd.DataFrame(lines).assign(p_holm=holm(pd.DataFrame(lines)["p_value"].to_numpy()))
        # Which one is the best was seen in these scores: all pairs were in question, so all are corrected for.
        tables.append(table[table["reference"] == pairs[0][1]] if reference == BEST else table)
    return pd.concat(tables, ignore_index=True)


def _side_by_side(cell: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of every seed and image, a column per method in order of appearance."""
    wide = side_by_side(cell.astype({"method": str}), ["seed", "image_id", "photo"], "method")
    wide = wide[list(dict.fromkeys(cell["method"].astype(str)))]
    return pd.DataFrame(with_ties(wide.to_numpy(copy=True)), wide.index, wide.columns)


def _pairs(scores: pd.DataFrame, reference: str | None, higher: bool) -> Iterator[Pair]:
    """Yield the pairs that are tested; those with the best method first, if it is asked for."""
    methods = [str(name) for name in scores]
    if reference not in (None, BEST):
        yield from ((method, str(reference)) for method in methods if method != reference)
        return
    if reference == BEST:
        means = scores.dropna().mean() if len(scores.dropna()) else scores.mean()
        best = str((means if higher else -means).fillna(float("-inf")).idxmax())
        yield from ((method, best) for method in methods if method != best)
        methods.remove(best)
    yield from combinations(methods, 2)


def _line(trained: dict[str, Any], metric: str, pair: Pair, scores: pd.DataFrame) -> dict[str, Any]:
    method, reference = pair
    gain = paired_gain(scores[method] - scores[reference])
    found = {"rows": gain.rows, "seeds": gain.seeds, "p_value": gain.p_value}
    return trained | {"metric": metric, "method": method, "reference": reference} | gain.interval._asdict() | found
