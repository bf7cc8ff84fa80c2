"""Does S-IB fine-tuning help, over several seeds, against controls? The studies, with their criterion fixed beforehand.

Every seed trains a starting checkpoint with cross-entropy and fine-tunes copies of it equally long: ``ce`` (the control
of all), ``sib`` (object masks), ``sib-self`` (the checkpoint's own masks), ``sib-shuffled`` (those masks permuted over
images, the control of ``sib-self``), ``energy-cam`` and ``background-swap`` (what a user would try first; object masks,
weight 1, not tuned).

Criterion, written before the runs: over seeds, paired, with Student's 95 % interval above 0, (1) ``sib`` and
``sib-self`` gain foreground focus against ``ce`` for every one of the seven methods; (2) ``sib-self`` gains it against
``sib-shuffled`` too; (3) accuracy on decorrelated and adversarial images and of the worst group rises against ``ce``
and, for ``sib-self``, against ``sib-shuffled``. Nothing is chosen by these numbers; each seed is read once.

    python benchmarks/train_sib.py --study embedded
    python benchmarks/train_sib.py --study msrc --root DATA --weights FILE --seeds 3

A finished seed is kept in its own folder and not repeated.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from tqdm import tqdm
from trainings import (
    FROM_SCRATCH,
    MIDDLE_LAYERS,
    PRE_TRAINED,
    Recipe,
    hits_of,
    load_splits,
    subset,
    train_all,
    worst_group,
)

from sibx import METHODS, Results, build_model, evaluate
from sibx.datasets import InMemoryDataset
from sibx.evaluation import Interval, mean_over_seeds
from sibx.report import to_markdown
from sibx.train import GuidanceConfig

ATTRIBUTION = ("sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam")
CONTROLS = ("control_center", "control_input_contrast", "control_random")
METRICS = ("foreground_focus", "background_suppression", "pointing_game")
BASELINES = {
    "energy-cam": GuidanceConfig("energy-cam", weight=1.0),
    "background-swap": GuidanceConfig("background-swap", weight=1.0),
}
TRAININGS = ("ce", "sib", "sib-self", "sib-shuffled", *BASELINES)
CLAIMS = (
    ("sib", "ce"),
    ("sib-self", "ce"),
    ("sib-self", "sib-shuffled"),
    ("energy-cam", "ce"),
    ("background-swap", "ce"),
    ("sib", "background-swap"),
)


@dataclass(frozen=True)
class Study:
    """What is trained on what; focus is measured on the images of ``explained``."""

    dataset: str
    model: str
    image_size: int
    explained: str
    recipe: Recipe
    options: dict[str, str] = field(default_factory=dict)


PHOTOGRAPHS = replace(PRE_TRAINED, layers=MIDDLE_LAYERS["mobilenet_v2"], test_images=80)
STUDIES = {
    "embedded": Study("synthetic", "tiny_cnn", 64, "test-decorrelated", FROM_SCRATCH),
    "pets": Study("oxford-pets", "mobilenet_v2", 160, "test", PHOTOGRAPHS),
    "msrc": Study("msrc-v2", "mobilenet_v2", 160, "test", PHOTOGRAPHS, {"void": "background"}),
}


def main(
    study: str = "embedded",
    seeds: int = 5,
    root: str | None = None,
    weights: str | None = None,
    threads: int | None = None,
    out: Path = Path("results"),
) -> None:
    """Run one study and write tables and figures under ``out/study-<name>/``.

    Args:
        study: embedded, pets or msrc.
        seeds: how many; the numbers 0, 1, ... are used.
        root: folder of the photographs.
        weights: ImageNet weights of MobileNetV2 for photographs: "default", or the path of a state dict.
        threads: of torch; default its own choice.
        out: folder for the results.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    plan, folder = STUDIES[study], out / f"study-{study}"
    splits = load_splits(plan.dataset, root, plan.image_size, **plan.options)
    for seed in tqdm(range(seeds), desc="seeds"):
        if not (folder / f"seed-{seed}" / "accuracy.json").is_file():
            run_seed(plan, splits, weights, seed, folder / f"seed-{seed}")
    folders = [folder / f"seed-{seed}" for seed in range(seeds)]
    focus = pd.concat([_means(Results.load(f), seed) for seed, f in enumerate(folders)], ignore_index=True)
    accuracy = pd.concat([_accuracies(f, seed) for seed, f in enumerate(folders)], ignore_index=True)
    text = report(focus, accuracy, seeds)
    (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
    draw(focus, folder / "focus.png")
    print(text)


def run_seed(plan: Study, splits: Mapping[str, InMemoryDataset], weights: str | None, seed: int, folder: Path) -> None:
    """Train and explain with one seed; the accuracies are written last, as a sign that all is there."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    network = build_model(plan.model, len(splits["train"].classes), weights)
    trained, log = train_all(network, splits, plan.recipe, seed, BASELINES)
    images = subset(splits[plan.explained], plan.recipe.test_images)
    parts = [
        evaluate(
            model,
            images,
            methods=(*ATTRIBUTION, *(CONTROLS if name == "ce" else ())),
            metrics=METRICS,
            labels={"model": plan.model, "training": name},
            seed=seed,
        )
        for name, model in trained.items()
    ]
    Results.concat(parts, {"training_log": log, "seconds": round(time.perf_counter() - start, 1)}).save(folder)
    lines = {}
    for name, model in trained.items():
        hits = {s: hits_of(model, data) for s, data in splits.items() if s.startswith("test")}
        lines[name] = {split: float(values.mean()) for split, values in hits.items()}
        if "test-decorrelated" in hits:
            worst = worst_group(hits["test-decorrelated"], splits["test-decorrelated"])
            lines[name]["worst group"] = float(worst.mean())
        torch.save(model.state_dict(), folder / f"{name}.pt")
    draft = folder / "accuracy.tmp"
    draft.write_text(json.dumps(lines, indent=2), encoding="utf-8")
    draft.replace(folder / "accuracy.json")


def _means(results: Results, seed: int) -> pd.DataFrame:
    """Mean over images: seed, training, metric, what (the method), value."""
    means = results.rows.groupby(["training", "metric", "method"], sort=False)["value"].mean().reset_index()
    return means.rename(columns={"method": "what"}).assign(seed=seed)


def _accuracies(folder: Path, seed: int) -> pd.DataFrame:
    lines = json.loads((folder / "accuracy.json").read_text(encoding="utf-8"))
    rows = [(name, "accuracy", what, value) for name, line in lines.items() for what, value in line.items()]
    return pd.DataFrame(rows, columns=["training", "metric", "what", "value"]).assign(seed=seed)


def report(focus: pd.DataFrame, accuracy: pd.DataFrame, seeds: int) -> str:
    """All tables as Markdown: mean and standard deviation over seeds, then paired differences with intervals."""
    chunks = []
    for title, table in (("Accuracy", accuracy), *((METRICS_TITLES[m], focus[focus["metric"] == m]) for m in METRICS)):
        chunks += [f"\n## {title}: mean and standard deviation over {seeds} seeds\n", to_markdown(levels(table), "")]
        chunks += [f"\n## {title}: paired difference over seeds [95 % interval]\n", to_markdown(gains(table), "claim")]
    return "\n".join(chunks).strip()


METRICS_TITLES = {
    "foreground_focus": "Foreground focus",
    "background_suppression": "Background suppression",
    "pointing_game": "Pointing game",
}


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """One row per training, one column per split or method."""
    cells = table.groupby(["training", "what"], sort=False)["value"].agg(["mean", "std"])
    texts = cells.apply(lambda c: f"{c['mean']:.3f} ± {c['std']:.3f}", axis=1).unstack()
    return texts.reindex(index=[t for t in TRAININGS if t in texts.index], columns=table["what"].unique()).fillna("")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim; an interval that lies above 0 is marked."""
    lines = {}
    for training, reference in CLAIMS:
        lines[f"{training} - {reference}"] = {
            what: _text(difference(table, training, reference, what))
            for what in table["what"].unique()
            if what not in CONTROLS
        }
    return pd.DataFrame(lines).T


def difference(table: pd.DataFrame, training: str, reference: str, what: str) -> Interval:
    """Mean over seeds of the paired difference."""
    part = table[table["what"] == what].set_index(["training", "seed"])["value"]
    return mean_over_seeds((part[training] - part[reference]).to_numpy())


def _text(interval: Interval) -> str:
    mark = " *" if interval.low > 0 else ""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]{mark}"


def draw(focus: pd.DataFrame, path: Path) -> None:
    """Foreground focus per method: the gain of every training over ``ce``, with intervals over seeds."""
    table = focus[focus["metric"] == "foreground_focus"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    compared = [t for t in TRAININGS if t != "ce"]
    for shift, training in zip(np.linspace(-0.3, 0.3, len(compared)), compared, strict=True):
        intervals = [difference(table, training, "ce", what) for what in ATTRIBUTION]
        means = [i.mean for i in intervals]
        reach = [i.mean - i.low for i in intervals]
        axes.errorbar(np.arange(len(ATTRIBUTION)) + shift, means, reach, fmt="o", capsize=3, label=training)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(ATTRIBUTION)), [METHODS[m].title for m in ATTRIBUTION], rotation=20, ha="right")
    axes.set_ylabel("gain in foreground focus over CE")
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
