"""What a study found, in short: accuracy, also of the worst group, and gains with the controls they have to beat."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from study import Study
from trainings import CLAIMS

from sibx import Results
from sibx.evaluation import bootstrap_mean, worst_group
from sibx.report import to_markdown

SCOPE = ["dataset", "model"]


def summarize(results: Results, study: Study) -> str:
    """Return accuracies and gains, data set by data set and model by model."""
    scopes = results.rows[SCOPE].drop_duplicates().to_dict("records")
    return "\n\n".join(
        f"# {scope['dataset']}, {scope['model']}\n\n"
        f"## Accuracy [95 % interval over images]\n\n{to_markdown(accuracies(part), 'training')}\n\n"
        f"## Gains, paired over images [95 % interval]; mean over the {len(study.methods)} methods\n\n"
        f"{to_markdown(gains(part, study), 'claim')}"
        for scope in scopes
        for part in [results.where(**{str(name): value for name, value in scope.items()})]
    )


def accuracies(results: Results) -> pd.DataFrame:
    """One row per training, one column per test split, and the worst group where background and class are independent.

    ``original`` is the image as it is: 1 if the model is right.
    """
    hits = results.where(metric="original")
    lines: dict[str, dict[str, str]] = {}
    for cell in hits.summary(["training", "split"]).to_dict("records"):
        lines.setdefault(cell["training"], {})[cell["split"]] = _interval(cell)
    if "test-decorrelated" in set(hits.rows["split"]):
        for cell in worst_group(hits.where(split="test-decorrelated"), ["training"]).to_dict("records"):
            lines[cell["training"]]["worst group"] = f"{_interval(cell)} n={cell['n']}"
    return pd.DataFrame(lines).T


def _interval(cell: Mapping[Any, Any]) -> str:
    return f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def gains(results: Results, study: Study) -> pd.DataFrame:
    """The paired difference between two trainings map by map; per image the mean over methods and seeds."""
    rows = results.rows[results.rows["method"].isin(study.methods)]
    maps = ["split", "metric", "image_id", "label", "method", "seed", "dataset", "model"]
    wide = rows.set_index([*maps, "training"])["value"].unstack("training")
    lines = {}
    for training, reference in (claim for claim in CLAIMS if set(claim) <= set(wide.columns)):
        of_maps = wide[training] - wide[reference]
        differences = of_maps.groupby(["split", "metric", "image_id", "label"], sort=False).mean()
        for split in results.rows["split"].unique():
            cells = {m: bootstrap_mean(v.to_numpy()) for m, v in differences[split].groupby("metric", sort=False)}
            lines[f"{training} - {reference}, {split}"] = {
                metric: f"{i.mean:+.3f} [{i.low:+.3f}, {i.high:+.3f}]" for metric, i in cells.items()
            }
    return pd.DataFrame(lines).T.reindex(columns=rows["metric"].unique())
