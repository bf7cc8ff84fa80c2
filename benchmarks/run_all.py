"""Does S-IB fine-tuning improve explanations, and against which controls?

Trains a classifier with cross-entropy, fine-tunes copies of it with cross-entropy alone (``ce``, the control) and with
S-IB (``sib``: object masks from the data; ``sib-self``: its own masks; ``sib-shuffled``: those masks permuted over the
images, the control of ``sib-self``), explains the test images with every method, and scores the explanations.
Without arguments: the embedded synthetic benchmark, no download. Nothing is chosen on test data.

    python benchmarks/run_all.py
    python benchmarks/run_all.py --dataset oxford-pets --root DATA --model mobilenet_v2 --weights FILE --image-size 160
"""

import dataclasses
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import nn
from tqdm import tqdm
from trainings import FROM_SCRATCH, MIDDLE_LAYERS, PRE_TRAINED, hits_of, load_splits, subset, train_all, worst_group

from sibx import (
    METHODS,
    METRICS,
    Results,
    build_model,
    evaluate,
)
from sibx.attribution import build_method
from sibx.datasets import DATASETS, InMemoryDataset, collate
from sibx.evaluation import bootstrap_mean, heatmaps_of
from sibx.report import metric_table, montage, to_markdown

ATTRIBUTION = ("sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam")
CONTROLS = ("control_abs_input", "control_input_contrast", "control_center", "control_random")
LOCALIZATION = ("foreground_focus", "foreground_lift", "background_suppression", "pointing_game")
FAITHFULNESS = ("deletion", "insertion")
TRAININGS = ("ce", "sib", "sib-self", "sib-shuffled")
# The gains that the report prints, each with the control it has to beat.
CLAIMS = (("sib", "ce"), ("sib-self", "ce"), ("sib-self", "sib-shuffled"))
MONTAGE_METHODS = ("sib", "vjp", "smoothgrad", "integrated_gradients", "input_x_gradient", "gradcam")


def main(
    dataset: str = "synthetic",
    root: str | None = None,
    model: str = "tiny_cnn",
    weights: str | None = None,
    image_size: int | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
    perturbed_images: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    out: Path = Path("results"),
) -> None:
    """Run the benchmark and write everything under ``out/<dataset>-<model>/``.

    Args:
        dataset: key of DATASETS.
        root: folder of the data; not needed for ``synthetic``.
        model: key of MODELS.
        weights: None = train from scratch, "default" = torchvision's, or the path of a state dict.
        image_size: side of the images in pixels; default the data set's.
        train_images: at most so many training images, spread over the set; default all.
        test_images: images per test split that are explained, spread over the split; default 64 (40 for photographs).
        perturbed_images: how many of those also get deletion and insertion (57 forward passes each); default 24 (12).
        epochs: of the starting training and of the fine-tuning; default each recipe's own.
        seed: of weights, order, augmentation and shuffling.
        threads: of torch; default its own choice.
        out: folder for the results.
    """
    start = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    size = image_size or (DATASETS[dataset].image_size if dataset in DATASETS else 224)
    splits = load_splits(dataset, root, size)
    tests = [s for s in splits if s.startswith("test")]
    recipe = PRE_TRAINED if weights else FROM_SCRATCH
    recipe = replace(recipe, layers=MIDDLE_LAYERS.get(model) if weights else None)
    recipe = replace(
        recipe,
        test_images=test_images or recipe.test_images,
        perturbed_images=perturbed_images or recipe.perturbed_images,
    )
    if train_images is not None:
        splits["train"] = subset(splits["train"], train_images)
    if epochs is not None:
        start_config, tune_config = (replace(c, epochs=epochs) for c in (recipe.start, recipe.tune))
        recipe = replace(recipe, start=start_config, tune=tune_config)
    network = build_model(model, len(splits["train"].classes), weights)
    trained, log = train_all(network, splits, recipe, seed, TRAININGS)
    accuracies = to_markdown(_accuracy_table(trained, splits, tests), "training")
    print(f"\nAccuracy [95 % interval over images]\n{accuracies}")

    parts = []
    jobs = [(training, split) for split in tests for training in TRAININGS]
    for training, split in tqdm(jobs, desc="explain and score"):
        images = subset(splits[split], recipe.test_images)
        names = {"model": model, "training": training}
        methods = (*ATTRIBUTION, *CONTROLS)
        parts.append(evaluate(trained[training], images, methods=methods, metrics=LOCALIZATION, labels=names))
        few = subset(images, recipe.perturbed_images)
        parts.append(evaluate(trained[training], few, methods=methods, metrics=FAITHFULNESS, labels=names))
    info = {
        "command": {
            "dataset": dataset,
            "model": model,
            "weights": weights and Path(weights).name,
            "image_size": size,
        },
        "recipe": dataclasses.asdict(recipe),
        "training_log": log,
        "seed": seed,
        "evaluation": parts[0].info,
    }
    folder = out / f"{dataset}-{model}"
    results = Results.concat(parts, info | {"seconds": round(time.perf_counter() - start, 1)})
    results.save(folder)
    text = _report(results, accuracies, splits, tests)
    print(text)
    (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
    for split in tests:
        _draw_montage(trained, subset(splits[split], 6), folder / f"montage-{split}.png")
    for name, net in trained.items():
        torch.save(net.state_dict(), folder / f"{name}.pt")
    print(f"\nWritten to {folder}/ after {time.perf_counter() - start:.0f} s: {', '.join(sorted(_names(folder)))}")


def _names(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir()]


def _accuracy_table(
    trained: Mapping[str, nn.Module], splits: Mapping[str, InMemoryDataset], tests: list[str]
) -> pd.DataFrame:
    """Accuracy per test split, and of the worst group of the split where backgrounds and classes are independent."""
    lines = {}
    for name, network in trained.items():
        hits = {split: hits_of(network, splits[split]) for split in tests}
        lines[name] = {split: _interval(values) for split, values in hits.items()}
        if "test-decorrelated" in hits:
            worst = worst_group(hits["test-decorrelated"], splits["test-decorrelated"])
            lines[name]["worst group"] = f"{_interval(worst)} n={len(worst)}"
    return pd.DataFrame(lines).T


def _interval(values: Any) -> str:
    interval = bootstrap_mean(values)
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _report(results: Results, accuracies: str, splits: Mapping[str, InMemoryDataset], tests: list[str]) -> str:
    """All tables as Markdown."""
    chunks = ["# Accuracy\n", accuracies]
    summary = results.summary()
    for split in tests:
        part = summary[summary["split"] == split]
        area = float(collate(splits[split].samples).masks.double().mean())
        chunks.append(f"\n# {split} (objects cover {area:.3f} of the image)")
        for metric in (*LOCALIZATION, *FAITHFULNESS):
            spec = METRICS[metric]
            better = "higher" if spec.higher_is_better else "lower"
            count = int(part[part["metric"] == metric][["n", "undefined"]].sum(axis=1).max())
            chunks.append(f"\n## {spec.title} ({better} is better; chance: {spec.chance}; {count} images)\n")
            chunks.append(to_markdown(metric_table(part, metric, order=TRAININGS), "method"))
    chunks.append("\n# Gains, paired over images [95 % interval]; mean over the seven methods\n")
    chunks.append(to_markdown(_gains(results, tests), "claim"))
    return "\n".join(chunks)


def _gains(results: Results, tests: list[str]) -> pd.DataFrame:
    """Per image the mean over methods, then the paired difference between two trainings."""
    rows = results.rows[results.rows["method"].isin(ATTRIBUTION)]
    keys = ["dataset", "split", "image_id", "label", "model", "training", "seed", "metric"]
    means = rows.groupby(keys, as_index=False, sort=False)["value"].mean()
    filler = {"predicted": -1, "confidence": 1.0, "group": -1, "area": float("nan"), "method": "mean", "target": -1}
    averaged = Results(means.assign(**filler), results.curves.iloc[:0])
    lines = {}
    for training, reference in CLAIMS:
        table = averaged.difference(training, reference)
        for split in tests:
            cells = table[table["split"] == split].to_dict("records")
            lines[f"{training} - {reference}, {split}"] = {
                c["metric"]: f"{c['mean']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in cells
            }
    return pd.DataFrame(lines).T


def _draw_montage(trained: Mapping[str, nn.Module], images: InMemoryDataset, path: Path) -> None:
    """Rows = images; columns = image with its mask, then every method before (ce) and after S-IB (sib)."""
    batch = collate(images.samples)
    columns = {}
    for method in MONTAGE_METHODS:
        for training in ("ce", "sib"):
            network = trained[training]
            with torch.no_grad():
                targets = network(batch.images).argmax(1)
            spec = METHODS[method]
            columns[f"{spec.title}\n{training}"] = heatmaps_of(spec, build_method(spec, network), batch.images, targets)
    titles = [images.classes[label] for label in batch.labels.tolist()]
    figure = montage(images.normalization.inverse(batch.images), batch.masks, columns, titles)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    # Options may be spelled with dashes as well as with underscores.
    words = [re.sub(r"(?<=\w)-(?=[\w-]*(=|$))", "_", w) if w.startswith("--") else w for w in sys.argv[1:]]
    auto_cli(main, args=words, as_positional=False)
