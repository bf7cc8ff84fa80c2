"""Tables of what own or given masks gain on every set, with another network, with fewer images: from cells of studies.

    python benchmarks/experiments/carries_over_shown.py

Reads the files of ``cells.py`` below (the study ``carries_over.yaml``, its network, number of images, epochs or
trainings changed), and writes a table for each: a line per set, and the mean over sets where there are several; of
those in WHOLE further scores, the methods, and the scenes that mislead. Gains are paired over seeds. What the trainings
of ``carries_over_longer.yaml`` start from is in ``starts.csv``, lines of ``further_ahead.py --tried '[start]'``.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli
from shares_shown import PAGES, READ, marked, over_sets

from sibx import METHODS
from sibx.attribution import is_control
from sibx.evaluation import mean_over_seeds

HERE = Path(__file__).parent
OWN = {"ce": "ce", "sib-self-cut": "own", "sib-self-cut-shuffled": "shuffled"}
GIVEN = {"ce": "ce", "sib": "given", "sib-shuffled": "shuffled"}
# Name of the table -> its file, and what its trainings are called.
TABLES = {
    "carries_over_lite0": ("carries_over_lite0", OWN),
    "carries_over_longer": ("carries_over_longer", OWN),
    "carries_over_longer_before": ("carries_over_longer_before", OWN),
    "carries_over_longer_before_lite0": ("carries_over_longer_before_lite0", OWN),
    "carries_over_few": ("carries_over_few", OWN),
    "carries_over_given": ("carries_over_again", GIVEN),
    "carries_over_own": ("carries_over_again", OWN),
}
WHOLE = ("carries_over_lite0", "carries_over_longer")
QUANTITIES = {"accuracy": "accuracy", "foreground_focus": "focus"}
FURTHER = {"balanced_accuracy": "balanced accuracy", "background_suppression": "suppression"}
CELL = ["dataset", "seed"]
SCENES = "pets-on-scenes"
STARTS = "carries_over_longer_starts"


def main(folder: Path = HERE, out: Path = PAGES / "tables") -> None:
    """Write the tables.

    Args:
        folder: folder of the cells.
        out: folder for the tables.
    """
    for name in TABLES:
        for title, found in tables(folder, name).items():
            found.to_csv(out / f"{title}.csv", lineterminator="\n")
    beside_starts(folder).to_csv(out / f"{STARTS}.csv", lineterminator="\n")


def tables(folder: Path, name: str) -> dict[str, pd.DataFrame]:
    """Return a table of TABLES, and those that go with it, by the names of their files."""
    file, called = TABLES[name]
    cells = pd.read_csv(folder / f"{file}.csv")
    cells = cells.assign(training=cells["training"].map(called)).dropna(subset="training")
    if name not in WHOLE:
        return {name: table(cells)}
    return {
        name: table(cells),
        f"{name}_further": table(cells, FURTHER),
        f"{name}_methods": of_methods(cells),
        f"{name}_scenes": scenes(cells[cells["dataset"] == SCENES]),
    }


def table(cells: pd.DataFrame, quantities: Mapping[str, str] = QUANTITIES) -> pd.DataFrame:
    """Return levels and gains of every set, then the mean gains over sets."""
    read = cells[cells["split"].isin(READ)]
    scores = {title: levels(read, metric) for metric, title in quantities.items()}
    lines = {}
    for dataset, seeds in cells.groupby("dataset", sort=False, observed=True)["seed"].nunique().items():
        parts = [line(wide.loc[[str(dataset)]], f"{title}: ") for title, wide in scores.items()]
        lines[f"{dataset} ({seeds})"] = {column: text for part in parts for column, text in part.items()}
    found = pd.DataFrame(lines).T
    if len(found) > 1:
        for title, wide in scores.items():
            for name, mean in over_sets(gains(wide)).items():
                found.loc["mean over sets", f"{title}: {name}"] = marked(mean)
    return found.fillna("").rename_axis("set (seeds)")


def of_methods(cells: pd.DataFrame) -> pd.DataFrame:
    """Return every method's mean gain of focus over sets."""
    focus, lines = cells[cells["split"].isin(READ) & (cells["metric"] == "foreground_focus")], {}
    for method, read in focus[~focus["method"].map(is_control)].groupby("method", observed=True):
        means = over_sets(gains(levels(read, "foreground_focus")))
        lines[METHODS[str(method)].title] = {name: marked(mean) for name, mean in means.items()}
    return pd.DataFrame(lines).T.rename_axis("focus, mean over sets")


def scenes(cells: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies on every split of a set whose background misleads in training."""
    lines = {}
    for split, read in cells.groupby("split", observed=True):
        # Scenes as in training have groups of a few images.
        for metric in ("accuracy",) if split in READ else ("accuracy", "worst_group"):
            lines[f"{split}, {metric.replace('_', ' ')}"] = line(levels(read, metric))
    return pd.DataFrame(lines).T.rename_axis("split")


def beside_starts(folder: Path) -> pd.DataFrame:
    """Return accuracy and focus of the networks that trainings start from beside those of what they become."""
    starts, cells = pd.read_csv(folder / "starts.csv"), pd.read_csv(folder / "carries_over_longer.csv")
    before = starts[starts["split"].isin(READ)].groupby("dataset", observed=True).mean(numeric_only=True)
    read = cells[cells["split"].isin(READ)].assign(training=cells["training"].map(OWN))
    found = {}
    for title, method, metric in (
        ("accuracy", "classifier", "accuracy"),
        ("focus of VJP", "vjp", "foreground_focus"),
        ("focus of Grad-CAM", "gradcam", "foreground_focus"),
    ):
        chosen = read[(read["method"] == method) & (read["metric"] == metric)]
        after = chosen.groupby(["dataset", "training"], observed=True)["mean"].mean().unstack("training")
        wide = after.assign(start=before["accuracy" if method == "classifier" else method])[["start", *OWN.values()]]
        found[f"{title}: {', '.join(wide.columns)}"] = wide.map("{:.3f}".format).agg(", ".join, axis=1)
    return pd.DataFrame(found).rename_axis("set")


def levels(read: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a row per set and seed and a column per training: the accuracy, or the mean over the methods' means."""
    chosen = read[(read["metric"] == metric) & ~read["method"].map(is_control)]
    means = chosen.groupby([*CELL, "training"], observed=True)["mean"].mean().unstack("training")
    (ours,) = set(means.columns) - {"ce", "shuffled"}
    return means[["ce", ours, "shuffled"]]


def gains(wide: pd.DataFrame) -> pd.DataFrame:
    """Return what every pair differs by, a row per set and seed."""
    plain, ours, shuffled = wide.columns
    return pd.DataFrame({f"{ours} - {other}": wide[ours] - wide[other] for other in (plain, shuffled)}).dropna()


def line(wide: pd.DataFrame, title: str = "") -> dict[str, str]:
    """Return the means over the seeds of one set, and its gains."""
    found = {f"{title}{', '.join(wide.columns)}": ", ".join(f"{mean:.3f}" for mean in wide.mean())}
    for name, of_seeds in gains(wide).items():
        found[f"{title}{name}"] = marked(mean_over_seeds(of_seeds.to_numpy()))
    return found


if __name__ == "__main__":
    auto_cli(main)
