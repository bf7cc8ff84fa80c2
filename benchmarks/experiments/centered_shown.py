"""Tables of what a centered head changes: what ``centered.py`` measured, from its CSV.

    python benchmarks/experiments/centered_shown.py

The first table has Grad-CAM's focus on every set with heads as they are and centered, means over seeds, and how far own
masks are ahead with either. The second has what centering gains for every method, by kind of training, as the mean over
sets with its interval for other sets.
"""

from pathlib import Path

import pandas as pd
from carries_over_shown import OWN
from centered import KEY, METHODS
from jsonargparse import auto_cli
from shares_shown import PAGES, marked, over_sets

HERE = Path(__file__).parent
HEADS = ["as is", "centered"]
PERTURBED = "gradcam_perturbed"
TITLES = {
    "gradcam": "Grad-CAM",
    "layercam": "LayerCAM",
    "vjp": "VJP",
    "saliency": "Saliency",
    "input_x_gradient": "Input x Gradient",
    PERTURBED: "Grad-CAM, insertion - deletion",
}
assert set(TITLES) == {*METHODS, PERTURBED}


def main(file: Path = HERE / "centered.csv", out: Path = PAGES / "tables") -> None:
    """Write the tables.

    Args:
        file: what ``centered.py`` wrote.
        out: folder for the tables.
    """
    for name, table in tables(pd.read_csv(file)).items():
        table.to_csv(out / f"{name}.csv", lineterminator="\n")


def tables(lines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables by the names of their files."""
    lines = lines.assign(training=lines["training"].map(OWN))
    return {"centered": of_sets(lines), "centered_over_sets": of_methods(lines)}


def of_sets(lines: pd.DataFrame) -> pd.DataFrame:
    """Return Grad-CAM's focus on every set, of every training: as it is, and centered."""
    wide = lines.pivot(index=KEY[:3], columns=["training", "head"], values="gradcam").dropna()
    rows = {}
    for (model, dataset), of_seeds in wide.groupby(["model", "dataset"], sort=False, observed=True):
        means = of_seeds.mean()
        levels = {name: [means[name, head] for head in HEADS] for name in OWN.values()}
        gains = {
            f"own - {other}": [means["own", head] - means[other, head] for head in HEADS]
            for other in ("ce", "shuffled")
        }
        rows[f"{model}, {dataset} ({len(of_seeds)})"] = {
            **{name: ", ".join(map("{:.3f}".format, pair)) for name, pair in levels.items()},
            **{name: ", ".join(map("{:+.3f}".format, pair)) for name, pair in gains.items()},
        }
    return pd.DataFrame(rows).T.rename_axis("network, set (seeds)")


def of_methods(lines: pd.DataFrame) -> pd.DataFrame:
    """Return what centering gains for every method, the mean over sets."""
    wide = lines.set_index([*KEY, "head"]).unstack("head")
    gained = pd.DataFrame({title: wide[name, "centered"] - wide[name, "as is"] for name, title in TITLES.items()})
    rows = {}
    for (model, training), of_cells in gained.groupby(["model", "training"], sort=False, observed=True):
        means = over_sets(of_cells.droplevel(["model", "training"]))
        rows[f"{model}, {training}"] = {title: marked(mean) for title, mean in means.items()}
    return pd.DataFrame(rows).T.rename_axis("network, training")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
