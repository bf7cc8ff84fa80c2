"""A table and a figure of how few object masks matter, from the CSV of ``few_masks.py``.

    python benchmarks/experiments/few_masks_shown.py

The table has the mean over seeds of every training, and what it gains over cross-entropy and over its shuffled control
(paired by seed, with Student's interval). The figure draws the means, and every seed.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from shares import METHODS

from sibx import DATASETS
from sibx.evaluation import mean_over_seeds

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "experiments"
READ = ("test", "test-decorrelated")  # of the embedded images those whose background says nothing about the class
SHOWN = {"accuracy": "accuracy", "focus": "focus, four methods"}
TRAINED = ["dataset", "drawn", "rest", "masks"]
LINES = {
    ("none", "true"): ("drawn masks, rest without", "#0b6e4f", "-"),
    ("own", "true"): ("drawn masks, rest own", "#2f5fa8", "-"),
    ("none", "shuffled"): ("shuffled, rest without", "#0b6e4f", ":"),
    ("own", "shuffled"): ("shuffled, rest own", "#2f5fa8", ":"),
}


def main(file: Path = HERE / "few_masks.csv", out: Path = PAGES) -> None:
    """Write the table and draw the figure.

    Args:
        file: what ``few_masks.py`` wrote.
        out: folder of ``few_masks.png``; the table goes into its folder ``tables``.
    """
    table = read(file)
    (out / "tables").mkdir(exist_ok=True)
    gains(table).to_csv(out / "tables" / "few_masks.csv", lineterminator="\n")
    draw(table).savefig(out / "few_masks.png", dpi=80)


def read(file: Path) -> pd.DataFrame:
    """Return one line per training on the test images, with the mean focus of all methods."""
    table = pd.read_csv(file)
    table["focus"] = table[list(METHODS)].mean(axis=1)
    return table[table["split"].isin(READ)]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return means, and gains over cross-entropy and over shuffled masks, one line per training with true masks."""
    values = {key: part.set_index("seed") for key, part in table.groupby(TRAINED, sort=False)}
    lines = {}
    for (dataset, drawn, rest, masks), ours in values.items():
        if masks == "shuffled":
            continue
        line = {title: f"{ours[name].mean():.3f}" for name, title in SHOWN.items()}
        controls = {"cross-entropy": (dataset, 0.0, "none", "true"), "shuffled": (dataset, drawn, rest, "shuffled")}
        for name, title in SHOWN.items():
            for control, key in controls.items():
                of_control = values.get(key) if key != (dataset, drawn, rest, masks) else None
                line[f"{title} - {control}"] = "" if of_control is None else gained(ours[name], of_control[name])
        lines[f"{dataset}, {named(drawn, rest)}"] = line
    return pd.DataFrame(lines).T.rename_axis("images with a drawn mask")


def named(drawn: Any, rest: Any) -> str:
    """Return what a training is called in the table."""
    if drawn == 0:
        return "none: cross-entropy" if rest == "none" else "none, all own masks"
    return f"{drawn:.0%}" if drawn == 1 else f"{drawn:.0%}, rest {'own masks' if rest == 'own' else 'without'}"


def gained(ours: pd.Series, theirs: pd.Series) -> str:
    """Return the mean difference over the seeds of both with its interval; a star where it leaves 0 out."""
    found = mean_over_seeds((ours - theirs).dropna().to_numpy())
    text = f"{found.mean:+.3f}" if not abs(found.high) < 10 else f"{found:+.3f}"  # of one seed there is no interval
    return f"{text}{' *' if found.excludes_zero else ''}"


def draw(table: pd.DataFrame) -> Figure:
    """Draw accuracy and focus against the share of images with a drawn mask: a row for each set."""
    sets = list(dict.fromkeys(table["dataset"]))
    figure = Figure(figsize=(9, 3.4 * len(sets)), layout="constrained")
    panels = figure.subplots(len(sets), len(SHOWN), squeeze=False)
    for row, dataset in zip(panels, sets, strict=True):
        for panel, (name, title) in zip(row, SHOWN.items(), strict=True):
            _fill(panel, table[table["dataset"] == dataset], name)
            panel.set(title=DATASETS[dataset].title, xlabel="images with a drawn mask", ylabel=title)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _fill(panel: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw the means over seeds, evenly spaced; every seed is a small dot."""
    shares = sorted(set(table["drawn"]))
    places = {share: float(i) for i, share in enumerate(shares)}
    plain = table[(table["drawn"] == 0) & (table["rest"] == "none")][name].mean()
    panel.axhline(plain, color="black", linewidth=0.8, label="cross-entropy")
    for i, ((rest, masks), (label, color, style)) in enumerate(LINES.items()):
        ours = table[(table["rest"] == rest) & (table["masks"] == masks) & ((table["drawn"] > 0) | (rest == "own"))]
        found = {share: mean_over_seeds(part[name].to_numpy()) for share, part in ours.groupby("drawn")}
        at = [places[float(str(share))] + 0.06 * (i - 1.5) for share in found]
        panel.plot(at, [f.mean for f in found.values()], style, marker="o", color=color, label=label)
        panel.scatter([places[s] + 0.06 * (i - 1.5) for s in ours["drawn"]], ours[name], s=7, color=color, alpha=0.4)
    panel.set_xticks(list(places.values()), [f"{share:.0%}" for share in shares])
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    auto_cli(main)
