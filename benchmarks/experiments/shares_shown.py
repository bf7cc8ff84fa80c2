"""Tables and a figure of accuracy against focus at every share: what ``shares.py`` measured, from its CSV.

    python benchmarks/experiments/shares_shown.py

Writes three tables as CSV, which the pages of ``docs`` show. The first has every set and share. The second is the mean
over sets of what a share gains over cross-entropy alone, and over shuffled masks at the same share. The third leaves
one set out at a time: the share is chosen by the rule of ``fine_tune(choose_weight=True)`` (the largest whose accuracy
is at most .01 below that of share 0) on the validation images of the *other* sets, as the mean over them and the seeds,
and is then read on the test images of the set that was left out, of which nothing plays a part in the choice. Draws
``shares.png``: a panel for each set, validation images apart from test images.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from shares import METHODS

from sibx.evaluation import Interval, mean_over_seeds, mean_over_sets

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "experiments"
READ = ("test", "test-id")  # the test splits whose images are explained
MARGIN = 0.01  # as in fine_tune(choose_weight=True)
SHOWN = {"accuracy": "accuracy", "focus": "focus, four methods", "vjp": "VJP", "gradcam": "Grad-CAM"}
COLORS = {"own": "#0b6e4f", "shuffled": "#b5651d"}


def main(file: Path = HERE / "shares.csv", out: Path = PAGES) -> None:
    """Write the tables and draw the figure.

    Args:
        file: what ``shares.py`` wrote.
        out: folder of ``shares.png``; the tables go into its folder ``tables``.
    """
    test, val = read(file)
    (out / "tables").mkdir(exist_ok=True)
    for name, table in tables(test, val).items():
        table.to_csv(out / "tables" / f"{name}.csv", lineterminator="\n")
    draw(val, test).savefig(out / "shares.png", dpi=80)


def read(file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the lines of test and of validation images, with the mean focus of all methods."""
    table = pd.read_csv(file)
    table["focus"] = table[list(METHODS)].mean(axis=1)
    return table[table["split"].isin(READ)], table[table["split"] == "val"]


def tables(test: pd.DataFrame, val: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the three tables by the names of their files."""
    return {
        "shares_test": levels(test).rename_axis("set, masks, share"),
        "shares_over_sets": gains_over_sets(test).rename_axis("claim"),
        "shares_left_out": leave_one_out(val, test).rename_axis("set left out"),
    }


def levels(test: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every set, masks and share, and over how many seeds it is."""
    groups = test.groupby(["dataset", "masks", "share"], sort=False, observed=True)
    means = groups[list(SHOWN)].mean().map("{:.3f}".format).rename(columns=SHOWN)
    means["seeds"] = groups["seed"].nunique().astype(str)
    return means.set_axis([f"{d}, {m}, {s:g}" if s else f"{d}, cross-entropy" for d, m, s in means.index])


def gains(test: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield every claim with its differences: one row per set and seed, one column per quantity."""
    for share in sorted(set(test["share"]) - {0.0}):
        yield f"own at {share:g} - cross-entropy", paired(test, ("own", share), ("own", 0.0))
        if share in set(test[test["masks"] == "shuffled"]["share"]):
            yield f"own at {share:g} - shuffled", paired(test, ("own", share), ("shuffled", share))


def paired(test: pd.DataFrame, ours: tuple[str, float], theirs: tuple[str, float]) -> pd.DataFrame:
    """Return the difference between two kinds of training, named by masks and share, for every set and seed of both."""
    one, two = (
        test[(test["masks"] == masks) & (test["share"] == share)].set_index(["dataset", "seed"])[list(SHOWN)]
        for masks, share in (ours, theirs)
    )
    return one.sub(two).dropna()


def gains_over_sets(test: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over sets of every claim, with its interval for other sets."""
    lines = {}
    for claim, differences in gains(test):
        means = over_sets(differences)
        lines[claim] = {title: marked(means[name]) for name, title in SHOWN.items()}
    return pd.DataFrame(lines).T


def over_sets(differences: pd.DataFrame) -> dict[str, Interval]:
    """Return the mean over sets of every column, a row per set and seed, with its interval for other sets.

    The error of a set is that over its seeds, with the variance between seeds pooled over sets: of two or three seeds a
    set alone would know it too badly.
    """
    of_sets = differences.groupby("dataset", observed=True)
    means, errors = of_sets.mean(), (of_sets.var().mean() / of_sets.count()) ** 0.5
    errors = errors.fillna(0)  # of single seeds nothing is known of their spread
    return {str(name): mean_over_sets(means[name], errors[name]) for name in means}


def leave_one_out(val: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return what the share that was chosen on the other sets does on each set."""
    own = val[val["masks"] == "own"].pivot(index=["dataset", "seed"], columns="share", values="accuracy")
    lines = {}
    for left_out in own.index.unique("dataset"):
        losses = (
            own.drop(left_out, level="dataset").sub(own[0.0], axis=0).groupby("dataset", observed=True).mean().mean()
        )
        share = max(s for s, loss in losses.items() if loss >= -MARGIN - 1e-9)
        gain = paired(test[test["dataset"] == left_out], ("own", share), ("own", 0.0))
        found = {title: marked(mean_over_seeds(gain[name].to_numpy())) for name, title in SHOWN.items()}
        lines[left_out] = {"share chosen on the others": f"{share:g}", **found}
    return pd.DataFrame(lines).T


def draw(val: pd.DataFrame, test: pd.DataFrame) -> Figure:
    """Draw accuracy against focus: a column for each set, a row for validation and for test images."""
    sets = list(dict.fromkeys(test["dataset"]))
    figure = Figure(figsize=(3 * len(sets), 6), layout="constrained")
    panels = figure.subplots(2, len(sets), squeeze=False)
    for row, (name, part) in zip(panels, {"validation": val, "test": test}.items(), strict=True):
        for panel, dataset in zip(row, sets, strict=True):
            for masks, color in COLORS.items():
                _trace(panel, part[part["dataset"] == dataset], masks, color)
            panel.set(title=f"{dataset}, {name}", xlabel="foreground focus", ylabel="accuracy")
            panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=8)
    return figure


def _trace(panel: Axes, part: pd.DataFrame, masks: str, color: str) -> None:
    """Connect the means over seeds of all shares, from cross-entropy on; every seed is a small dot."""
    ours = part[(part["masks"] == masks) | (part["share"] == 0)].sort_values("share")
    means = ours.groupby("share", observed=True)[["focus", "accuracy"]].mean()
    panel.scatter(ours["focus"], ours["accuracy"], s=8, color=color, alpha=0.4)
    panel.plot(means["focus"], means["accuracy"], "o-", color=color, label=f"{masks} masks")
    for share, (focus, accuracy) in means.iterrows():
        panel.annotate(f"{share:g}", (focus, accuracy), textcoords="offset points", xytext=(4, 4), fontsize=8)


def marked(found: Interval) -> str:
    """Write a difference with its interval, and a star where 0 lies outside."""
    text = f"{found:+.3f}" if abs(found.high) < 10 else f"{found.mean:+.3f}"  # of one seed or set there is no interval
    return f"{text}{' *' if found.excludes_zero else ''}"


if __name__ == "__main__":
    auto_cli(main)
