"""Two trainings compared, image by image and seed by seed."""

from typing import Any

import pandas as pd

from sibx._checks import check_choice
from sibx.evaluation.columns import CELL
from sibx.evaluation.gain import paired_gain
from sibx.evaluation.significance import holm
from sibx.evaluation.statistics import mean_over_seeds

COMPARED = [name for name in CELL if name != "training"]  # a line of a comparison


def compare_trainings(rows: pd.DataFrame, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.difference`` says."""
    lines = []
    for key, of_cell in _differences(rows, training, reference).groupby(level=COMPARED, sort=False):
        gain = paired_gain(of_cell)
        lines.append(
            _name(key) | gain.interval._asdict() | {"rows": gain.rows, "seeds": gain.seeds, "p_value": gain.p_value}
        )
    table = pd.DataFrame(lines)
    family = [c for c in COMPARED if c not in ("method", "metric")]
    return table.assign(p_holm=table.groupby(family)["p_value"].transform(lambda p: holm(p.to_numpy())))


def compare_over_seeds(rows: pd.DataFrame, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.over_seeds`` says."""
    # The mean of a seed's images; NaN for a seed without any pair.
    differences = _differences(rows, training, reference)
    cells = differences.groupby(level=[*COMPARED, "seed"], sort=False).mean().groupby(level=COMPARED, sort=False)
    return pd.DataFrame([_name(key) | mean_over_seeds(of_seeds.to_numpy())._asdict() for key, of_seeds in cells])


def _differences(rows: pd.DataFrame, training: str, reference: str) -> pd.Series:
    """One per score, seed and image; NaN where either training's is undefined or was not scored."""
    known = tuple(rows["training"].unique())
    check_choice("training", training, known)
    check_choice("reference", reference, known)
    wanted = rows[rows["training"].isin([training, reference])]
    wide = wanted.pivot(index=[*COMPARED, "seed", "image_id", "photo"], columns="training", values="value")
    return wide[training] - wide[reference]


def _name(key: Any) -> dict[str, Any]:
    return dict(zip(COMPARED, key, strict=True))
