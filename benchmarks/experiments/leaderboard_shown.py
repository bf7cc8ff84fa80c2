"""Ranks, tables and figures of the leaderboard: what ``leaderboard.py`` scored, from its CSV.

    python benchmarks/experiments/leaderboard_shown.py

A question (does the map lie on the object? does it find what the network uses?) is asked by several metrics. On every
photograph each metric and network ranks the methods, and the mean of these ranks is the photograph's vote, so that a
photograph counts once however many networks and metrics saw it. Votes are ranked again, by Friedman's test and
Nemenyi's critical difference, and compared with those of the best control, pair by pair.

Writes ``leaderboard.csv``, the mean and interval of every network, set, method and metric, and the tables and figures
that the page of ``docs`` shows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from leaderboard import KEY

from sibx import METHODS, METRICS
from sibx.attribution import is_control
from sibx.evaluation import Interval, Ranking, bootstrap_mean, holm, rank_methods, wilcoxon_signed_rank
from sibx.report import critical_difference

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "results"
QUESTIONS = {
    "localization": ("foreground_focus", "pointing_game", "average_precision", "iou"),
    "faithfulness": ("deletion", "insertion", "lerf", "road"),
    "regions": ("irof", "sensitivity_n", "infidelity"),
    "complexity": ("sparseness", "entropy", "effective_complexity"),
    "robustness": ("max_sensitivity",),
    "sanity": ("randomization", "complexity_rise", "random_logit"),
}
DRAWN = ("localization", "faithfulness")
SHOWN = {  # metrics whose means the page shows, by question
    "localization": ("foreground_focus", "average_precision"),
    "faithfulness": ("insertion_minus_deletion", "road"),
}
CONVOLUTIONAL, TRANSFORMER = ("mobilenet_v2", "efficientnet_lite0"), ("tiny_vit",)
PHOTO = ["dataset", "image"]
LEVEL = 0.05


class Votes(NamedTuple):
    """A photograph's mean rank of every method, by one question; 1 = the best.

    Attributes:
        table: a line per photograph, a column per method.
        ranking: of the votes.
    """

    table: pd.DataFrame
    ranking: Ranking

    @property
    def control(self) -> str:
        """The best of the controls."""
        return next(name for name in self.ranking.mean_ranks if is_control(name))


def main(scores: Path = HERE / "leaderboard_scores.csv", out: Path = PAGES) -> None:
    """Write the means beside the scores, and the tables and figures.

    Args:
        scores: what ``leaderboard.py`` wrote; ``leaderboard_passes.csv`` stands beside it.
        out: folder of the figures; the tables go into its folder ``tables``.
    """
    rows, passes = pd.read_csv(scores), pd.read_csv(scores.with_name("leaderboard_passes.csv"))
    cells(rows).to_csv(scores.with_name("leaderboard.csv"), index=False, float_format="%.3g", lineterminator="\n")
    for name, table in tables(rows, passes).items():
        table.to_csv(out / "tables" / f"{name}.csv", lineterminator="\n")
    titles = {name: spec.title for name, spec in METHODS.items()}
    for question in DRAWN:
        figure = critical_difference(votes(rows, QUESTIONS[question], CONVOLUTIONAL).ranking, titles)
        figure.savefig(out / f"leaderboard_{question}.png", dpi=80)


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return four lines per network, set and metric, with a column per method: mean, low, high and n of the images."""
    lines = []
    for key, part in rows.groupby(["model", "dataset", "metric"], sort=False):
        found = pd.DataFrame({m: bootstrap_mean(part[m].to_numpy())._asdict() for m in _methods(part)})
        lines.append(pd.concat({key: found.drop(index="undefined")}, names=["model", "dataset", "metric"]))
    return pd.concat(lines).rename_axis(["model", "dataset", "metric", "value"]).reset_index()


def tables(rows: pd.DataFrame, passes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables by the names of their files."""
    asked = asked_of(rows, CONVOLUTIONAL)
    means = {f"leaderboard_{name}": levels(rows, metrics) for name, metrics in SHOWN.items()}
    return {
        "leaderboard_size": size(rows),
        "leaderboard_ranks": ranks(asked, passes),
        "leaderboard_controls": against_controls(asked),
        "leaderboard_transformer": ranks(asked_of(rows, TRANSFORMER), passes),
        **means,
    }


def asked_of(rows: pd.DataFrame, models: Sequence[str]) -> dict[str, Votes]:
    """Return the votes by every question that was asked of these networks."""
    scored = set(rows[rows["model"].isin(models)]["metric"])
    return {name: votes(rows, metrics, models) for name, metrics in QUESTIONS.items() if scored & set(metrics)}


def votes(rows: pd.DataFrame, metrics: Sequence[str], models: Sequence[str]) -> Votes:
    """Return the votes of the photographs that these networks explain, on methods that all of them take.

    A method without a score is last there.
    """
    chosen = rows[rows["metric"].isin(metrics) & rows["model"].isin(models)]
    by_network = [_methods(part) for _, part in chosen.groupby("model")]
    methods = [m for m in by_network[0] if all(m in others for others in by_network)]
    signs = np.array([1.0 if METRICS[name].higher_is_better else -1.0 for name in chosen["metric"]])
    scores = chosen[methods].to_numpy() * signs[:, None]  # of four digits, so that what differs by rounding is equal
    defined = ~np.isnan(scores).all(1)
    ranked = pd.DataFrame(np.nan_to_num(scores, nan=-np.inf), columns=methods).rank(axis=1, ascending=False)
    labelled = pd.concat([chosen[PHOTO].reset_index(drop=True), ranked], axis=1)[defined]
    table = labelled.groupby(PHOTO, sort=False)[methods].mean()
    return Votes(table, rank_methods(table.to_numpy(), methods, higher_is_better=False))


def ranks(asked: dict[str, Votes], passes: pd.DataFrame) -> pd.DataFrame:
    """Return the mean rank of every method by every question, with its interval over photographs, and its passes."""
    columns = {
        f"{name} (of {len(found.table.columns)}, n = {len(found.table)})": {
            method: _interval(bootstrap_mean(found.table[method].to_numpy()), 1) for method in found.table
        }
        for name, found in asked.items()
    }
    order = list(dict.fromkeys(m for found in asked.values() for m in found.ranking.mean_ranks))
    table = pd.DataFrame(columns).reindex(order).fillna("")
    table.insert(0, "passes", [f"{passes[name].max():.0f}" for name in order])
    return table.rename(index=_title).rename_axis("method")


def against_controls(asked: dict[str, Votes]) -> pd.DataFrame:
    """Return by how many ranks every method is before the best control, by every question; * = shown."""
    columns, order = {}, list(METHODS)
    for name, found in asked.items():
        methods = [str(m) for m in found.table.columns if not is_control(str(m))]
        lead = {m: (found.table[found.control] - found.table[m]).to_numpy() for m in methods}
        p_values = holm(np.array([wilcoxon_signed_rank(lead[m], np.zeros(len(lead[m]))).p_value for m in methods]))
        texts = {}
        for method, p_value in zip(methods, p_values, strict=True):
            gain = bootstrap_mean(lead[method])
            texts[method] = _interval(gain, 1, "+") + (" *" if gain.low > 0 and p_value < LEVEL else "")
        columns[f"{name}: over {METHODS[found.control].title.removeprefix('control: ')}"] = texts
    table = pd.DataFrame(columns)
    return table.reindex([m for m in order if m in table.index]).fillna("").rename(index=_title).rename_axis("method")


def levels(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the mean of some metrics on every set, over networks and images, of the convolutional networks."""
    chosen = rows[rows["metric"].isin(metrics) & rows["model"].isin(CONVOLUTIONAL)]
    methods = _methods(chosen)
    means = chosen.groupby(["metric", "dataset"], sort=False)[methods].mean().T
    titles = [f"{METRICS[str(metric)].title}, {dataset}" for metric, dataset in means.columns.to_frame().to_numpy()]
    means = means.set_axis(titles, axis=1)
    order = means.mean(axis=1).sort_values(ascending=False, kind="stable").index
    return means.loc[order].map("{:.3f}".format).rename(index=_title).rename_axis("method")


def size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many images of every cell were scored by each kind of metric."""
    kinds = {name: metrics[0] for name, metrics in QUESTIONS.items()}
    counts = rows.groupby(["model", "dataset", "metric"], sort=False)["image"].nunique().unstack("metric")
    table = counts.reindex(columns=list(kinds.values())).set_axis(list(kinds), axis=1).fillna(0).astype(int)
    return table.set_axis([f"{model}, {dataset}" for model, dataset in table.index]).rename_axis("network, set")


def _methods(rows: pd.DataFrame) -> list[str]:
    """The methods that took part: those with a score."""
    return [name for name in rows.columns if name not in KEY and rows[name].notna().any()]


def _title(method: str) -> str:
    return METHODS[method].title


def _interval(found: Interval, digits: int, sign: str = "") -> str:
    """The mean with its interval; of a single image there is none."""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in found[:3])
    return f"{mean} [{low}, {high}]" if found.n > 1 else mean


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
