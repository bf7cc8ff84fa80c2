"""Trainings of several seeds compared: Markdown tables and figures of paired differences with intervals.

A table has one row per value: seed, training, what (a method, or a split of accuracies), image_id, value.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from trainings import CLAIMS

from sibx import METHODS
from sibx.attribution import is_control
from sibx.evaluation import Interval, bootstrap_mean, mean_over_seeds
from sibx.report import to_markdown


def report(accuracy: pd.DataFrame, scores: Mapping[str, pd.DataFrame], seeds: int) -> str:
    """All tables as Markdown: mean and standard deviation over seeds, then paired differences with intervals.

    Args:
        accuracy: one value per split, training and seed.
        scores: title of a metric -> its values, one per image, method, training and seed; the first one is the one
            that is also compared over images.
        seeds: how many.
    """
    chunks = []
    for title, table in {"Accuracy": accuracy, **scores}.items():
        chunks += [f"\n## {title}: mean and standard deviation over {seeds} seeds\n", to_markdown(levels(table), "")]
        chunks += [f"\n## {title}: paired difference over seeds [95 % interval]\n", to_markdown(gains(table), "claim")]
    title, table = next(iter(scores.items()))
    chunks += [f"\n## {title}: paired difference over images, mean over seeds [95 % interval]\n"]
    chunks += [to_markdown(gains_over_images(table), "claim")]
    if table["value"].isna().any():
        images = table["image_id"].nunique()
        chunks += [f"\n## Maps that are zero, without {title.lower()}, of {images} images and {seeds} seeds\n"]
        chunks += [to_markdown(undefined(table), "")]
    return "\n".join(chunks).strip()


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """One row per training, one column per split or method."""
    of_seeds = table.groupby(["training", "what", "seed"], sort=False)["value"].mean()
    cells = of_seeds.groupby(["training", "what"], sort=False).agg(["mean", "std"])
    texts = cells.apply(lambda c: f"{c['mean']:.3f} ± {c['std']:.3f}".removesuffix(" ± nan"), axis=1).unstack()
    return texts.reindex(index=table["training"].unique(), columns=table["what"].unique()).fillna("")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim, over seeds; an interval without 0 is marked."""
    return pd.DataFrame(
        {
            f"{training} - {reference}": {w: _text(difference(table, training, reference, w)) for w in compared(table)}
            for training, reference in _claims(table)
        }
    ).T


def gains_over_images(table: pd.DataFrame) -> pd.DataFrame:
    """The same map by map; an image counts once, with its mean over seeds."""
    lines = {}
    for training, reference in _claims(table):
        pairs = {w: paired(table, training, reference, w).groupby("image_id").mean() for w in compared(table)}
        lines[f"{training} - {reference}"] = {w: _text(bootstrap_mean(v.to_numpy())) for w, v in pairs.items()}
    return pd.DataFrame(lines).T


def undefined(table: pd.DataFrame) -> pd.DataFrame:
    """How many maps have no value: one row per training that has such maps, one column per method."""
    counts = table["value"].isna().groupby([table["training"], table["what"]], sort=False).sum()
    wide = counts.unstack(fill_value=0)[compared(table)]
    return wide[wide.sum(axis=1) > 0].astype(str)


def difference(table: pd.DataFrame, training: str, reference: str, what: str) -> Interval:
    """Mean over seeds of the paired difference."""
    return mean_over_seeds(paired(table, training, reference, what).groupby("seed").mean().to_numpy())


def paired(table: pd.DataFrame, training: str, reference: str, what: str) -> pd.Series:
    """Difference per seed and image; a pair without a value on one side is left out."""
    values = table[table["what"] == what].set_index(["training", "seed", "image_id"])["value"]
    return (values.loc[training] - values.loc[reference]).dropna()


def compared(table: pd.DataFrame) -> list[str]:
    """The methods or splits; maps that look at no model are the same for all trainings."""
    return [what for what in table["what"].unique() if not is_control(what)]


def draw_gains(table: pd.DataFrame, path: Path, label: str) -> None:
    """What every training gains over ``ce``, per method or split, with intervals over seeds."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    columns, trainings = compared(table), [t for t in table["training"].unique() if t != "ce"]
    for shift, training in zip(np.linspace(-0.3, 0.3, len(trainings)), trainings, strict=True):
        intervals = [difference(table, training, "ce", what) for what in columns]
        means = [i.mean for i in intervals]
        reach = [i.mean - i.low for i in intervals]
        axes.errorbar(np.arange(len(columns)) + shift, means, reach, fmt="o", capsize=3, label=training)
    axes.axhline(0, color="black", linewidth=0.8)
    titles = [METHODS[what].title if what in METHODS else what for what in columns]
    axes.set_xticks(range(len(columns)), titles, rotation=20, ha="right")
    axes.set_ylabel(label)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=110)


def _claims(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The claims whose trainings are both there."""
    return [claim for claim in CLAIMS if set(claim) <= set(table["training"])]


def _text(interval: Interval) -> str:
    mark = " *" if interval.low > 0 or interval.high < 0 else ""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]{mark}"
