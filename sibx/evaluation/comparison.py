"""Two trainings compared, image by image and seed by seed."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from sibx._checks import check_choice
from sibx.evaluation.by_cell import ByCell
from sibx.evaluation.columns import CELL, side_by_side
from sibx.evaluation.gain import paired_gain
from sibx.evaluation.significance import holm
from sibx.evaluation.statistics import mean_over_seeds

COMPARED = [name for name in CELL if name != "training"]  # a line of a comparison


def compare_trainings(rows: ByCell, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.difference`` says."""
    lines = []
    for name, of_cell in _differences(rows, training, reference):
        gain = paired_gain(of_cell)
        lines.append(name | gain.interval._asdict() | {"rows": gain.rows, "seeds": gain.seeds, "p_value": gain.p_value})
    table = _in_order(lines)
    family = [c for c in COMPARED if c not in ("method", "metric")]
    return table.assign(p_holm=table.groupby(family, observed=True)["p_value"].transform(lambda p: holm(p.to_numpy())))


def compare_over_seeds(rows: ByCell, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.over_seeds`` says."""
    lines = []
    for name, of_cell in _differences(rows, training, reference):
        # The mean of a seed's images; NaN for a seed without any pair.
        of_seeds = of_cell.groupby(level="seed", sort=False, observed=True).mean()
        lines.append(name | mean_over_seeds(of_seeds.to_numpy())._asdict())
    return _in_order(lines)


def _differences(rows: ByCell, training: str, reference: str) -> Iterator[tuple[dict[str, Any], pd.Series]]:
    """For every cell one per seed and image; NaN where either training's is undefined or was not scored."""
    known = tuple(rows.distinct(["training"])["training"])
    check_choice("training", training, known)
    check_choice("reference", reference, known)
    both = list(dict.fromkeys([training, reference]))
    for key, cell in rows.cells(COMPARED, {"training": both}):
        wide = side_by_side(cell, ["seed", "image_id", "photo"], "training")
        wide = wide.reindex(columns=both)
        yield dict(zip(COMPARED, key, strict=True)), wide[training] - wide[reference]


def _in_order(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """Sort the lines by their names as texts, in whatever order rows come."""
    return pd.DataFrame(lines).sort_values(COMPARED, key=lambda names: names.astype(str), ignore_index=True)
