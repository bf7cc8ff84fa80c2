"""Tables of the baselines over seeds: what ``cells.py`` read of ``baselines_embedded.yaml`` and ``.._composite.yaml``.

    python benchmarks/experiments/baselines_shown.py

Writes two tables of each as CSV, which the page of ``docs`` shows: the mean and standard deviation over seeds of every
training, and what S-IB gains over others, paired over seeds, with Student's 95 % interval.
"""

from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli
from shares_shown import marked

from sibx import TRAININGS
from sibx.attribution import is_control
from sibx.evaluation import mean_over_seeds
from sibx.objectives import Given

HERE = Path(__file__).parent
FILES = ("baselines_embedded", "baselines_composite")
TABLES = HERE.parents[1] / "docs" / "experiments" / "tables"
SPLITS = {"test-id": "usual scenes", "test-decorrelated": "mixed scenes", "test-adversarial": "other scenes"}
WORST, FOCUS = "worst group, mixed", "focus, mixed"
GROUPS = {"group-dro": "groups", "dfr": "groups (validation)"}
ORDER = ["nothing", "nothing (control)", *GROUPS.values(), "masks", "masks (control)"]
CLAIMS = [
    ("sib-self-cut", "ce"),
    ("sib-self-cut", "sib-self-cut-shuffled"),
    ("sib-self-cut", "jtt"),
    ("sib-self-cut", "dfr"),
    ("sib", "ce"),
    ("sib", "sib-shuffled"),
    ("sib", "background-swap"),
    ("sib", "energy-cam"),
]


def main(folder: Path = HERE, out: Path = TABLES) -> None:
    """Write the tables.

    Args:
        folder: folder of what ``cells.py`` wrote.
        out: folder of the tables.
    """
    for file in FILES:
        for name, table in tables(pd.read_csv(folder / f"{file}.csv"), file).items():
            table.to_csv(out / f"{name}.csv", lineterminator="\n")


def tables(cells: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """Return the two tables of a file by the names of theirs."""
    scores = of_seeds(cells)
    return {name: levels(scores), f"{name}_gains": gains(scores)}


def of_seeds(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one line per training and seed: what the tables show, as numbers."""
    classifier = cells[cells["method"] == "classifier"]
    accuracy = classifier[classifier["metric"] == "accuracy"].pivot(
        index=["training", "seed"], columns="split", values="mean"
    )
    mixed = cells[cells["split"] == "test-decorrelated"].set_index(["training", "seed"])
    maps = mixed[(mixed["metric"] == "foreground_focus") & ~mixed["method"].map(is_control)]
    return (
        accuracy[list(SPLITS)]
        .rename(columns=SPLITS)
        .assign(
            **{
                WORST: mixed[mixed["metric"] == "worst_group"]["mean"],
                FOCUS: maps.groupby(["training", "seed"], observed=True)["mean"].mean(),
                "VJP": maps[maps["method"] == "vjp"]["mean"],
                "Grad-CAM": maps[maps["method"] == "gradcam"]["mean"],
            }
        )
    )


def levels(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds, a line per training."""
    of_training = scores.groupby("training", sort=False, observed=True)
    mean, spread, seeds = of_training.mean(), of_training.std(), of_training.size()
    text = mean.map("{:.3f}".format) + spread.map(" ± {:.3f}".format).where(spread.notna(), "")
    text.insert(0, "needs", [needs(training) for training in text.index])
    text["seeds"] = seeds.astype(str)
    return text.loc[sorted(text.index, key=lambda name: (ORDER.index(needs(name)), name))]


def needs(training: str) -> str:
    """Return what a training has to be given beside images and labels."""
    name = training.removesuffix("-shuffled")
    if name in GROUPS:
        return GROUPS[name]
    what = "masks" if isinstance(TRAININGS[name].masks, Given) else "nothing"
    return what if name == training else f"{what} (control)"


def gains(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what a training gains over another, paired over seeds."""
    lines = {}
    for ours, theirs in CLAIMS:
        difference = pd.DataFrame(scores.xs(ours) - scores.xs(theirs)).dropna()  # the seeds that both have
        found = {str(name): mean_over_seeds(column.to_numpy()) for name, column in difference.items()}
        lines[f"{ours} - {theirs}"] = {n: marked(i) for n, i in found.items()}
    return pd.DataFrame(lines).T.rename_axis("claim")


if __name__ == "__main__":
    auto_cli(main)
