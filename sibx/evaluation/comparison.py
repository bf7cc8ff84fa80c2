"""Two trainings compared, image by image and seed by seed."""

from typing import Any

import pandas as pd

from sibx._checks import check_choice
from sibx.evaluation.columns import CELL
from sibx.evaluation.significance import holm, wilcoxon_signed_rank
from sibx.evaluation.statistics import Interval, bootstrap_difference, mean_over_seeds

COMPARED = [name for name in CELL if name != "training"]  # a line of a comparison


def compare_over_images(rows: pd.DataFrame, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.difference`` says."""
    wide = _side_by_side(rows, training, reference)
    both = wide.notna().all(axis=1)
    wide = wide.where(both).groupby(level=[*COMPARED, "image_id"], sort=False).mean()
    lines = []
    for key, pairs in wide.groupby(level=COMPARED, sort=False):
        values, others = pairs[training].to_numpy(), pairs[reference].to_numpy()
        p_value = wilcoxon_signed_rank(values, others).p_value
        lines.append(_line(key, bootstrap_difference(values, others)) | {"p_value": p_value})
    table = pd.DataFrame(lines)
    family = [c for c in COMPARED if c not in ("method", "metric")]
    return table.assign(p_holm=table.groupby(family)["p_value"].transform(lambda p: holm(p.to_numpy())))


def compare_over_seeds(rows: pd.DataFrame, training: str, reference: str) -> pd.DataFrame:
    """Return what ``Results.over_seeds`` says."""
    wide = _side_by_side(rows, training, reference)
    # The mean of a seed's images; NaN for a seed without any pair.
    gains = (wide[training] - wide[reference]).groupby(level=[*COMPARED, "seed"], sort=False).mean()
    cells = gains.groupby(level=COMPARED, sort=False)
    return pd.DataFrame([_line(key, mean_over_seeds(of_seeds.to_numpy())) for key, of_seeds in cells])


def _side_by_side(rows: pd.DataFrame, training: str, reference: str) -> pd.DataFrame:
    """A line per score, seed and image, a column per training; NaN where it is undefined or was not scored."""
    known = tuple(rows["training"].unique())
    check_choice("training", training, known)
    check_choice("reference", reference, known)
    wanted = rows[rows["training"].isin([training, reference])]
    return wanted.pivot(index=[*COMPARED, "seed", "image_id"], columns="training", values="value")


def _line(key: Any, interval: Interval) -> dict[str, Any]:
    return {**dict(zip(COMPARED, key, strict=True)), **interval._asdict()}
