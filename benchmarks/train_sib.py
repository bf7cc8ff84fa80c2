"""Does S-IB fine-tuning help, over several seeds, against controls? The studies, with their criterion fixed beforehand.

Every seed trains a starting checkpoint with cross-entropy and fine-tunes copies of it equally long: ``ce`` (the control
of all), ``sib`` (object masks), ``sib-self`` (the checkpoint's own masks), ``sib-given-shuffled`` and ``sib-shuffled``
(those masks permuted over images, the controls of the two), ``energy-cam`` and ``background-swap`` (what a user would
try first; object masks, weight 1, not tuned). On photographs also ``sib-background``, the background term alone, and
its control; that was added after ``sib`` had been read on the pets' test images, by its focus on validation images. And
``sib-self-cut`` and ``sib-self-background``: the two objectives with the checkpoint's own masks cut along edges, added
after ``sib-self`` had failed on test images, by the overlap of these masks with the objects of validation images.
The study ``scratch`` trains from random weights instead, as the paper does, with its published objective among others.

Criterion, written before the runs: over seeds, paired, with Student's 95 % interval above 0, (1) ``sib`` and
``sib-self`` gain foreground focus against ``ce`` for every one of the seven methods; (2) each gains it against its
shuffled masks too; (3) on the embedded images accuracy on decorrelated and adversarial images and of the worst group
rises against ``ce`` and against the shuffled masks. With three seeds (photographs) the interval over images, of the
mean over seeds, is printed beside. Nothing is chosen by these numbers; each seed is read once.

    python benchmarks/train_sib.py --study embedded
    python benchmarks/train_sib.py --study msrc --root DATA --weights FILE --seeds 3

A finished training is kept in its own folder and not repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cells import finish_cell, is_whole, start_checkpoint
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm
from trainings import (
    BASELINES,
    CLAIMS,
    FROM_SCRATCH,
    MIDDLE_LAYERS,
    PRE_TRAINED,
    Plan,
    Recipe,
    hits_of,
    load_splits,
    plan_from_scratch,
    plan_trainings,
    precision,
    subset,
    worst_group,
)

from sibx import METHODS, Results, build_model, evaluate
from sibx.datasets import InMemoryDataset
from sibx.evaluation import Interval, bootstrap_mean, mean_over_seeds
from sibx.report import to_markdown
from sibx.train import FineTuneResult

ATTRIBUTION = ("sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam")
CONTROLS = ("control_center", "control_input_contrast", "control_random")
METRICS = ("foreground_focus", "background_suppression", "pointing_game")
Splits = Mapping[str, InMemoryDataset]
TUNED = ("ce", "sib", "sib-given-shuffled", "sib-self", "sib-shuffled", *BASELINES)
PHOTOGRAPHS = (
    "sib-background",
    "sib-background-shuffled",
    "sib-self-cut",
    "sib-self-cut-shuffled",
    "sib-self-background",
    "sib-self-background-shuffled",
)
FROM_NOTHING = ("ce", "sib-published", "sib", "sib-given-shuffled", "sib-online", "sib-online-shuffled")
TRAININGS = tuple(dict.fromkeys(TUNED + PHOTOGRAPHS + FROM_NOTHING))


@dataclass(frozen=True)
class Study:
    """What is trained on what; focus is measured on the images of ``explained``."""

    dataset: str
    model: str
    image_size: int
    explained: str
    recipe: Recipe
    options: dict[str, str] = field(default_factory=dict)
    trainings: tuple[str, ...] = TUNED


STRONG = {"features.13": 5.0, "features.18": 2.0}
PETS = replace(PRE_TRAINED, layers=MIDDLE_LAYERS["mobilenet_v2"], background_layers=STRONG, test_images=80)
# Objects of many kinds in clutter take more weight than one pet in the middle.
MSRC = replace(PETS, layers=STRONG)
STUDIES = {
    "embedded": Study("synthetic", "tiny_cnn", 64, "test-decorrelated", FROM_SCRATCH),
    "pets": Study("oxford-pets", "mobilenet_v2", 160, "test", PETS, trainings=TUNED + PHOTOGRAPHS),
    "msrc": Study("msrc-v2", "mobilenet_v2", 160, "test", MSRC, {"void": "background"}, TUNED + PHOTOGRAPHS),
    "scratch": Study("synthetic", "tiny_cnn", 64, "test-decorrelated", FROM_SCRATCH, trainings=FROM_NOTHING),
}


def main(
    study: str = "embedded",
    seeds: int = 5,
    trainings: list[str] | None = None,
    root: str | None = None,
    weights: str | None = None,
    threads: int | None = None,
    out: Path = Path("results"),
) -> None:
    """Run one study and write tables and figures under ``out/study-<name>/``.

    Args:
        study: embedded, pets, msrc or scratch.
        seeds: how many; the numbers 0, 1, ... are used.
        trainings: which of the study's; default all.
        root: folder of the photographs.
        weights: ImageNet weights of MobileNetV2 for photographs: "default", or the path of a state dict.
        threads: of torch; default its own choice.
        out: folder for the results.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    plan, folder = STUDIES[study], out / f"study-{study}"
    splits = load_splits(plan.dataset, root, plan.image_size, **plan.options)
    trainings = list(trainings or plan.trainings)
    for seed in range(seeds):
        run_seed(plan, splits, weights, seed, folder / f"seed-{seed}", trainings)
    cells = [(s, Results.load(folder / f"seed-{s}" / name)) for s in range(seeds) for name in trainings]
    focus = pd.concat([_means(results, seed) for seed, results in cells], ignore_index=True)
    accuracy = pd.concat([_accuracies(results, seed) for seed, results in cells], ignore_index=True)
    text = report(focus, accuracy, Results.concat([results for _, results in cells]), seeds)
    (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
    draw(focus, folder / "focus.png")
    print(text)


def run_seed(
    plan: Study, splits: Splits, weights: str | None, seed: int, folder: Path, trainings: Sequence[str]
) -> None:
    """Train, explain and score what is missing of one seed; all cells start from one checkpoint."""
    missing = [name for name in trainings if not is_whole(folder / name)]
    if not missing:
        return
    torch.manual_seed(seed)
    network = build_model(plan.model, len(splits["train"].classes), weights)
    if plan.trainings == FROM_NOTHING:
        plans, recipe = plan_from_scratch(splits["train"], seed), plan.recipe.start
    else:
        network = start_checkpoint(network, splits["train"], replace(plan.recipe.start, seed=seed), folder)
        plans, recipe = plan_trainings(network, splits["train"], plan.recipe, seed), plan.recipe.tune
    for name in tqdm(missing, desc=f"{folder}"):
        learned = plans[name]()
        score = partial(_describe, plan, splits, learned, name, seed)
        finish_cell(folder / name, network, learned, replace(recipe, seed=seed), splits["val"], score)


def _describe(plan: Study, splits: Splits, learned: Plan, training: str, seed: int, result: FineTuneResult) -> Results:
    """What a cell says of its trained model."""
    info = result.history[-1] | {"seconds": result.seconds, "accuracy": _score(result.model, splits)}
    data, objective = learned
    if objective is not None:
        info["mask_precision"] = precision(data, splits["train"])
    return _explain(plan, result.model, splits, training, seed, info)


def _score(model: nn.Module, splits: Splits) -> dict[str, float]:
    """Accuracy on every test split, and of the worst group where backgrounds and classes are independent."""
    hits = {s: hits_of(model, data) for s, data in splits.items() if s.startswith("test")}
    line = {split: float(values.mean()) for split, values in hits.items()}
    if "test-decorrelated" in hits:
        worst = worst_group(hits["test-decorrelated"], splits["test-decorrelated"])
        line["worst group"] = float(worst.mean())
    return line


def _explain(plan: Study, model: nn.Module, splits: Splits, training: str, seed: int, info: dict[str, Any]) -> Results:
    images = subset(splits[plan.explained], plan.recipe.test_images)
    methods = (*ATTRIBUTION, *(CONTROLS if training == "ce" else ()))
    labels = {"model": plan.model, "training": training}
    results = evaluate(model, images, methods=methods, metrics=METRICS, labels=labels, seed=seed)
    return replace(results, info=info)


def _means(results: Results, seed: int) -> pd.DataFrame:
    """Mean over images: seed, training, metric, what (the method), value."""
    means = results.rows.groupby(["training", "metric", "method"], sort=False)["value"].mean().reset_index()
    return means.rename(columns={"method": "what"}).assign(seed=seed)


def _accuracies(results: Results, seed: int) -> pd.DataFrame:
    training = results.rows["training"].iloc[0]
    rows = [(training, "accuracy", what, value) for what, value in results.info["accuracy"].items()]
    return pd.DataFrame(rows, columns=["training", "metric", "what", "value"]).assign(seed=seed)


def report(focus: pd.DataFrame, accuracy: pd.DataFrame, rows: Results, seeds: int) -> str:
    """All tables as Markdown: mean and standard deviation over seeds, then paired differences with intervals."""
    chunks = []
    for title, table in (("Accuracy", accuracy), *((METRICS_TITLES[m], focus[focus["metric"] == m]) for m in METRICS)):
        chunks += [f"\n## {title}: mean and standard deviation over {seeds} seeds\n", to_markdown(levels(table), "")]
        chunks += [f"\n## {title}: paired difference over seeds [95 % interval]\n", to_markdown(gains(table), "claim")]
    chunks += ["\n## Foreground focus: paired difference over images, mean over seeds [95 % interval]\n"]
    chunks += [to_markdown(gains_over_images(rows), "claim")]
    return "\n".join(chunks).strip()


METRICS_TITLES = {
    "foreground_focus": "Foreground focus",
    "background_suppression": "Background suppression",
    "pointing_game": "Pointing game",
}


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """One row per training, one column per split or method."""
    cells = table.groupby(["training", "what"], sort=False)["value"].agg(["mean", "std"])
    texts = cells.apply(lambda c: f"{c['mean']:.3f} ± {c['std']:.3f}".removesuffix(" ± nan"), axis=1).unstack()
    return texts.reindex(index=[t for t in TRAININGS if t in texts.index], columns=table["what"].unique()).fillna("")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim; an interval that lies above 0 is marked."""
    lines = {}
    for training, reference in _claims(table):
        lines[f"{training} - {reference}"] = {
            what: _text(difference(table, training, reference, what))
            for what in table["what"].unique()
            if what not in CONTROLS
        }
    return pd.DataFrame(lines).T


def gains_over_images(results: Results) -> pd.DataFrame:
    """One row per claim: every image's focus is averaged over seeds, then trainings are compared image by image."""
    rows = results.rows[results.rows["metric"] == "foreground_focus"]
    means = rows.groupby(["training", "method", "image_id"], sort=False)["value"].mean()
    lines = {}
    for training, reference in _claims(rows):
        pairs = (means[training] - means[reference]).groupby("method", sort=False)
        lines[f"{training} - {reference}"] = {what: _text(bootstrap_mean(v.to_numpy())) for what, v in pairs}
    return pd.DataFrame(lines).T.reindex(columns=list(ATTRIBUTION))


def _claims(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The claims whose trainings are both there."""
    return [claim for claim in CLAIMS if set(claim) <= set(table["training"])]


def difference(table: pd.DataFrame, training: str, reference: str, what: str) -> Interval:
    """Mean over seeds of the paired difference."""
    part = table[table["what"] == what].set_index(["training", "seed"])["value"]
    return mean_over_seeds((part[training] - part[reference]).to_numpy())


def _text(interval: Interval) -> str:
    mark = " *" if interval.low > 0 or interval.high < 0 else ""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]{mark}"


def draw(focus: pd.DataFrame, path: Path) -> None:
    """Foreground focus per method: the gain of every training over ``ce``, with intervals over seeds."""
    table = focus[focus["metric"] == "foreground_focus"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    compared = [t for t in TRAININGS if t != "ce" and t in set(table["training"])]
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
