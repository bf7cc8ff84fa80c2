"""The table of what ``further_ahead.py`` tried, from its CSV.

    python benchmarks/experiments/further_ahead_shown.py

A line per form, set, seed and split: what own masks gain over cross-entropy alone and over shuffled masks. All
trainings of a line start from the same network; a training without its partner has no line. Focus is the mean of VJP
and Grad-CAM.
"""

from pathlib import Path

import pandas as pd
from further_ahead import FORMS, PLAIN
from jsonargparse import auto_cli

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "experiments" / "tables" / "further_ahead.csv"
START = ["split", "dataset", "epochs", "seed"]  # what trainings have in common that start from the same network
SHOWN = [
    ("accuracy", "ce"),
    ("accuracy", "shuffled"),
    ("focus", "ce"),
    ("focus", "shuffled"),
    ("vjp", "shuffled"),
    ("gradcam", "shuffled"),
]


def main(file: Path = HERE / "further_ahead.csv", out: Path = TABLE) -> None:
    """Write the table.

    Args:
        file: what ``further_ahead.py`` wrote.
        out: the table as CSV.
    """
    table(read(file)).to_csv(out, lineterminator="\n")


def read(file: Path) -> pd.DataFrame:
    """Return the lines of the splits that are explained, with the focus."""
    lines = pd.read_csv(file).dropna(subset=["vjp", "gradcam"])
    return lines.assign(focus=lines[["vjp", "gradcam"]].mean(axis=1), split=lines["split"].replace("test-id", "test"))


def table(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the gains of own masks as text, validation images first."""
    parts = [gains(lines, form) for form in FORMS]
    found = pd.concat(parts).sort_values(START, key=rank, kind="stable")
    text = found[[f"{name}, own - {over}" for name, over in SHOWN]].map("{:+.3f}".format)
    return text.set_axis(pd.MultiIndex.from_frame(found[[*START, "form"]]))


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
