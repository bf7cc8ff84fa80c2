"""Does S-IB fine-tuning help, over several seeds, against controls? The studies, with their criterion fixed beforehand.

Every seed trains a starting checkpoint with cross-entropy and fine-tunes copies of it equally long: ``ce`` (the control
of all), ``sib`` (object masks), ``sib-self-cut`` (the checkpoint's own masks, cut along edges), ``...-shuffled``
(those masks permuted over images, the controls of the two). On the embedded images ``energy-cam`` and
``background-swap`` too (what a user would try first; object masks, weight 1, not tuned). On photographs
``sib-background``, the background term alone with object masks, and its control: added after ``sib`` had been read on
the pets' test images, by its focus on validation images.
The study ``scratch`` trains from random weights instead, as the paper does, with its published objective among others.
By ``--trainings`` also what did not pass: ``sib-self`` with its control ``sib-shuffled``, a fifth of the last feature
map as own mask; ``sib-self-background``, the background term alone with own masks.

Criterion, written before the first runs: over seeds, paired, with Student's 95 % interval above 0, (1) ``sib`` and
``sib-self`` gain foreground focus against ``ce`` for every one of the seven methods; (2) each gains it against its
shuffled masks too; (3) on the embedded images accuracy on decorrelated and adversarial images and of the worst group
rises against ``ce`` and against the shuffled masks. Intervals over images, of the mean over seeds, are printed beside.

``sib-self-cut`` is held to the same lines, but came later: test images had been read for ``sib-self`` by then, and
``recommended("self")`` was changed after ``sib-self-cut`` had been read on them.

The layers' weights on photographs (MIDDLE_LAYERS) are one choice for both sets, made for own masks on validation images
of three seeds. Rule: accuracy at most a point below ``ce`` and the focus of five methods above it, on both sets; of the
forms that pass, the largest minimum, over sets and over VJP and Grad-CAM, of the lower end of the interval over images
of the gain over shuffled masks. It was written before the new forms were trained, with seven methods; two were left out
for their time once the first cells had been seen (EXPERIMENTS has the numbers). Other forms had been read on these test
images before, and on MSRC-v2 the chosen one. Object masks: ``sib-background`` was preferred after ``sib`` had failed.

On the pets five seeds left open whether VJP and Grad-CAM lie above the shuffled masks: yes over images, not over seeds.
Fixed on 2026-11-23, before any further training: ``ce``, ``sib-self-cut``, ``sib-background`` and the two controls run
over twelve seeds, 0 to 11, and (2) is then read once, for these two methods, whatever comes out; the seven new seeds
alone, untouched by any choice, are given beside (EXPERIMENTS).
On MSRC-v2 five seeds had shown it, but then a run of ``run_all.py`` did not. So there too, fixed before any further
training: ``sib-self-cut`` and its control over twelve seeds, VJP and Grad-CAM, read once.

    python benchmarks/train_sib.py --study embedded
    python benchmarks/train_sib.py --study msrc --root DATA --weights FILE
    python benchmarks/train_sib.py --study pets --root DATA --weights FILE --seeds 12

A finished training is kept in its own folder and not repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from cells import finish_cell, is_whole, start_checkpoint
from jsonargparse import auto_cli
from paired import draw_gains, report
from torch import nn
from tqdm import tqdm
from trainings import (
    BASELINES,
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

from sibx import Results, build_model, evaluate
from sibx.datasets import InMemoryDataset
from sibx.train import FineTuneResult

ATTRIBUTION = ("sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam")
CONTROLS = ("control_center", "control_input_contrast", "control_random")
METRICS = {
    "foreground_focus": "Foreground focus",
    "background_suppression": "Background suppression",
    "pointing_game": "Pointing game",
}
Splits = Mapping[str, InMemoryDataset]
COMPARED = ("ce", "sib", "sib-given-shuffled", "sib-self-cut", "sib-self-cut-shuffled")
EMBEDDED = (*COMPARED, *BASELINES)
PHOTOGRAPHS = (*COMPARED, "sib-background", "sib-background-shuffled")
FROM_NOTHING = ("ce", "sib-published", "sib", "sib-given-shuffled", "sib-online", "sib-online-shuffled")


@dataclass(frozen=True)
class Study:
    """What is trained on what; focus is measured on the images of ``explained``."""

    dataset: str
    model: str
    image_size: int
    explained: str
    recipe: Recipe
    options: dict[str, str] = field(default_factory=dict)
    trainings: tuple[str, ...] = EMBEDDED
    from_scratch: bool = False


PHOTOS = replace(PRE_TRAINED, layers=MIDDLE_LAYERS["mobilenet_v2"], test_images=80)
STUDIES = {
    "embedded": Study("synthetic", "tiny_cnn", 64, "test-decorrelated", FROM_SCRATCH),
    "pets": Study("oxford-pets", "mobilenet_v2", 160, "test", PHOTOS, trainings=PHOTOGRAPHS),
    "msrc": Study("msrc-v2", "mobilenet_v2", 160, "test", PHOTOS, {"void": "background"}, PHOTOGRAPHS),
    "scratch": Study("synthetic", "tiny_cnn", 64, "test-decorrelated", FROM_SCRATCH, {}, FROM_NOTHING, True),
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
        trainings: other ones than the study's, of ``plan_trainings`` (``plan_from_scratch`` for scratch).
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
    scores = pd.concat([_scores(results, seed) for seed, results in cells], ignore_index=True)
    accuracy = pd.concat([_accuracies(results, seed) for seed, results in cells], ignore_index=True)
    text = report(accuracy, {title: scores[scores["metric"] == m] for m, title in METRICS.items()}, seeds)
    (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
    draw_gains(scores[scores["metric"] == "foreground_focus"], folder / "focus.png", "gain in foreground focus over CE")
    draw_gains(accuracy, folder / "accuracy.png", "gain in accuracy over CE")
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
    if plan.from_scratch:
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
    if objective is not None and objective.needs_masks:
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
    results = evaluate(model, images, methods=methods, metrics=tuple(METRICS), labels=labels, seed=seed)
    return replace(results, info=info)


def _scores(results: Results, seed: int) -> pd.DataFrame:
    """One row per image and method: seed, training, metric, what (the method), image_id, value."""
    columns = ["training", "metric", "method", "image_id", "value"]
    return results.rows[columns].rename(columns={"method": "what"}).assign(seed=seed)


def _accuracies(results: Results, seed: int) -> pd.DataFrame:
    """The same of accuracies, what = the split, all images as one."""
    training = results.rows["training"].iloc[0]
    rows = [(training, "accuracy", what, "all", value) for what, value in results.info["accuracy"].items()]
    return pd.DataFrame(rows, columns=["training", "metric", "what", "image_id", "value"]).assign(seed=seed)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
