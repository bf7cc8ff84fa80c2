"""The tables of what ``further_ahead.py`` tried, from its CSV.

    python benchmarks/experiments/further_ahead_shown.py

A line per form, set, seed and split: what own masks gain over cross-entropy alone and over shuffled masks. All
trainings of a line start from the same network; a training without its partner has no line. Focus is the mean of VJP
and Grad-CAM. The short table has the mean over sets on test images, of each set the mean over its seeds, and in
brackets the lowest and the highest set. The table of learning rates has what was measured, from ``rates.csv``, which is
the same file with a column for each of the two rates (``--tune``).
"""

from pathlib import Path

import pandas as pd
from further_ahead import FORMS, PLAIN
from jsonargparse import auto_cli

HERE = Path(__file__).parent
TABLES = HERE.parents[1] / "docs" / "experiments" / "tables"
START = ["split", "dataset", "epochs", "seed"]  # what trainings have in common that start from the same network
SHOWN = [
    ("accuracy", "ce"),
    ("accuracy", "shuffled"),
    ("focus", "ce"),
    ("focus", "shuffled"),
    ("vjp", "shuffled"),
    ("gradcam", "shuffled"),
]
COLUMNS = [f"{name}, own - {over}" for name, over in SHOWN]


def main(file: Path = HERE / "further_ahead.csv", out: Path = TABLES) -> None:
    """Write the tables.

    Args:
        file: what ``further_ahead.py`` wrote.
        out: folder of the tables.
    """
    found = tables(read(file)) | {"rates": of_rates(pd.read_csv(HERE / "rates.csv", dtype=str))}
    for name, table in found.items():
        table.to_csv(out / f"{name}.csv", lineterminator="\n")


def read(file: Path) -> pd.DataFrame:
    """Return the lines of the splits that are explained, with the focus."""
    lines = pd.read_csv(file).dropna(subset=["vjp", "gradcam"])
    return lines.assign(focus=lines[["vjp", "gradcam"]].mean(axis=1), split=lines["split"].replace("test-id", "test"))


def tables(lines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables by name, their cells as text."""
    found = pd.concat([gains(lines, form) for form in FORMS])
    return {"further_ahead": every_start(found), "further_ahead_over_sets": over_sets(found)}


def of_rates(lines: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy, VJP's and Grad-CAM's focus of every training, a row per set, rates and form."""
    shown = lines[["accuracy", "vjp", "gradcam"]].astype(float).map("{:.3f}".format).agg(", ".join, axis=1)
    rates = lines["learning_rate"] + ", " + lines["head_learning_rate"]
    table = pd.DataFrame({"set": lines["dataset"], "rate, of the head": rates, "form": lines["form"]})
    table["training"] = lines["masks"].replace("none", "ce")
    wide = table.assign(shown=shown).pivot(index=["set", "rate, of the head", "form"], columns="training")["shown"]
    plain = wide.xs(PLAIN, level="form")["ce"].rename("ce")
    masked = wide.drop(index=PLAIN, level="form")[["own", "shuffled"]]
    return masked.join(plain).reset_index().set_index(["set", "rate, of the head", "form"])[["ce", "own", "shuffled"]]


def every_start(found: pd.DataFrame) -> pd.DataFrame:
    """Return the gains from each starting network, validation images first."""
    found = found.sort_values(START, key=rank, kind="stable")
    return found[COLUMNS].map("{:+.3f}".format).set_axis(pd.MultiIndex.from_frame(found[[*START, "form"]]))


def over_sets(found: pd.DataFrame) -> pd.DataFrame:
    """Return the gains on test images: the mean over sets, and their range."""
    tested = found[found["split"] == "test"]
    of_sets = tested.groupby(["epochs", "form", "dataset"], observed=True, sort=False)[COLUMNS].mean()
    forms = of_sets.groupby(["epochs", "form"], observed=True, sort=False)
    mean, low, high = (part.map("{:+.3f}".format) for part in (forms.mean(), forms.min(), forms.max()))
    starts = tested.groupby(["epochs", "form"], observed=True, sort=False).size()
    counts = pd.DataFrame({"sets": forms.size(), "starts": starts})
    return counts.join(mean + " [" + low + ", " + high + "]").sort_index(level=0, sort_remaining=False, kind="stable")


def rank(column: pd.Series) -> pd.Series:
    """Return the place of every value: numbers by size, names as they come first."""
    return column if column.name in {"seed", "epochs"} else column.map({v: i for i, v in enumerate(column.unique())})


def gains(lines: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return the differences of one form, a line per start."""
    names = list(dict.fromkeys(name for name, _ in SHOWN))

    def of(form: str, masks: str) -> pd.DataFrame:
        return lines[(lines["form"] == form) & (lines["masks"] == masks)].set_index(START)[names]

    own, parts = of(form, "own"), []
    for over, theirs in (("ce", of(PLAIN, "none")), ("shuffled", of(form, "shuffled"))):
        difference = (own - theirs.reindex(own.index)).dropna()
        parts.append(difference.add_suffix(f", own - {over}"))
    return pd.concat(parts, axis=1, join="inner").reset_index().assign(form=form)


if __name__ == "__main__":
    auto_cli(main)
