"""How much a classifier relies on the background, and how it does on its worst group."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from sibx._checks import check_choice, listed, look_up, require
from sibx._outputs import Output
from sibx._precise import precise_dtype
from sibx._seeds import image_seeds
from sibx.datasets.base import MaskedBatch, MaskedDataset, check_dataset, require_masks
from sibx.datasets.batches import load_batches
from sibx.evaluation.class_match import match_classes
from sibx.evaluation.columns import CELL, in_order, per_image
from sibx.evaluation.conditions import Indices, Model, Score, Setting, hits_of
from sibx.evaluation.photographs import photographs_of
from sibx.evaluation.results import Results
from sibx.evaluation.statistics import bootstrap_mean
from sibx.images.backgrounds import (
    BACKGROUNDS,
    BackgroundSpec,
    Donor,
    Scenes,
    choose_donors,
    inpaint,
    take_apart,
    takes_part,
)
from sibx.models.class_map import ClassMap
from sibx.runs.normalized import warn_of_normalization


def evaluate_reliance(
    model: Model,
    dataset: MaskedDataset,
    *,
    backgrounds: str | BackgroundSpec | Sequence[str | BackgroundSpec] = tuple(BACKGROUNDS),
    class_map: ClassMap | None = None,
    output: Output = "auto",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    out_dir: str | Path | None = None,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Results:
    """Classify every image as it is and with its background changed; means are accuracies, chance is 1 / K.

    Of several labels per image every label that is there has a row, as in ``evaluate``, and means are recalls: what a
    model that says yes to everything has is 1. ``Results.rates`` says what else there is of the images as they are.


    The conditions of Xiao 2020 (see ``sibx.images.backgrounds`` for exact definitions): ``original``; ``only_fg``;
    ``no_fg``, ``only_bg_b``, ``only_bg_t``, ``only_bg_i`` (background alone: what is right there beyond chance is right
    because of it); ``mixed_same``, ``mixed_rand``, ``mixed_next`` (the object on another image's background). With the
    first two of these comes ``bg_gap``, mixed_same - mixed_rand, in [-1, 1]: how much a background of the right class
    helps; 0 for a classifier that does not look at it.

    Backgrounds come from images of the same data set, one per image and condition, drawn from seed and image name.
    A module runs in eval mode, and is left in the mode and on the device it was in; nothing depends on the batch size.

    Args:
        model: images -> logits (B, K) of the classes of the data set: a module, or any function.
        dataset: images with masks and their normalization; any number of channels.
        backgrounds: conditions, or one, as keys of BACKGROUNDS or as specs of your own; by default all of BACKGROUNDS.
        class_map: class of the data -> output or several outputs, for a model with other classes, see ``evaluate``.
        output: what the logits are: ``softmax`` or ``sigmoid`` (a single logit has the classes 0 and 1); ``auto`` =
            ``sigmoid`` for a single logit and for several labels per image, else ``softmax``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them. Results are the same.
        device: where to compute; None = where the model is, for a function the CPU.
        seed: seed of the random choice of backgrounds.
        labels: values of the ``model`` and ``training`` columns; by default they are empty.
        out_dir: a folder for the results, written batch by batch; see ``evaluate``.
        resume: continue what an interrupted call left in ``out_dir``, see ``evaluate``.
        notes: further entries of ``info`` and ``run.json``.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Results with one row per image and condition, method ``classifier``: the condition under ``metric``; ``value``
        1 if the label is predicted there, else 0, NaN where the image takes no part or no background fits it.
        ``predicted`` and ``confidence`` are those of the image as it is, ``target`` is the label.

    Raises:
        ValueError: unknown or repeated names, an empty data set or one that is known to have no masks, ``raw``, or a
            model whose output is not (B, K).

    Source: Xiao, Engstrom, Ilyas, Madry, arXiv 2006.09994.
    """
    check_dataset(dataset, "dataset")
    warn_of_normalization(model, dataset)
    given = listed(backgrounds)
    chosen = [b if isinstance(b, BackgroundSpec) else look_up("backgrounds", b, BACKGROUNDS) for b in given]
    names = [spec.name for spec in chosen]
    require(len(set(names)) == len(names), "backgrounds", "name none twice", names)
    require_masks(dataset, "backgrounds", names)
    matched = match_classes(model, dataset, class_map, output)
    model, dataset, output = matched.model, matched.dataset, matched.output
    setting = Setting(
        matched=matched,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
        labels=labels,
        out_dir=out_dir,
        resume=resume,
        notes=notes,
        progress=progress,
    )

    def scorer(batches: Indices) -> Score:
        donors = _find_donors(dataset, chosen, seed, batch_size, workers) if batches else {}
        lenders = _read_donors(dataset, donors, batches, workers)

        def score(batch: MaskedBatch) -> dict[str, Tensor]:
            scenes, (there, lent_by) = _take_apart(batch, dataset), next(lenders)
            values = {}
            for spec in chosen:
                good = takes_part(scenes, boxed=spec.boxed)
                if spec.donor:
                    good &= there[spec.donor].to(good.device)
                dtype = precise_dtype(good.device)
                values[spec.name] = torch.full((len(batch),), torch.nan, dtype=dtype, device=good.device)
                if good.any():
                    part = Scenes(*(t[good] for t in scenes))
                    lent = _background(lent_by[spec.donor], good).to(part.pixels) if spec.donor else part.pixels
                    composed = dataset.normalization(spec.compose(part, lent))
                    values[spec.name][good] = hits_of(model, composed, batch.labels[good], output)
            if {"mixed_same", "mixed_rand"} <= set(values):
                values["bg_gap"] = values["mixed_same"] - values["mixed_rand"]
            return values

        return score

    return setting.run(scorer, "original", {"backgrounds": names})


def worst_group(results: Results, by: Sequence[str] = CELL) -> pd.DataFrame:
    """Return, for every cell, the group of images with the lowest mean: worst-group accuracy for a classifier's scores.

    Args:
        results: scores of images that have groups, as those of ``synthetic`` or of an index file have; a number below 0
            says that the image has none.
        by: columns whose values together make a cell.

    Returns:
        One line per cell: group, mean, 95 % bootstrap interval over that group's images, n, undefined images; group -1
        and NaN where no image has a group and a value. The group is chosen on the same images, so that the mean of the
        worst of many small groups is, by chance, below that of the group that is worst in truth.

    Raises:
        ValueError: a name that is not a column, or ``group``.

    Source: Sagawa et al., arXiv 1911.08731 (ICLR 2020).
    """
    for name in by:
        check_choice("by", name, tuple(c for c in results.columns if c != "group"))
    lines = {}
    for key, cell in results.cells(by):
        means = cell[cell["group"] >= 0].groupby("group", observed=True)["value"].mean().dropna()
        group = means.index.to_numpy()[means.argmin()] if len(means) else -1
        values = per_image(cell[(cell["group"] == group) & (group >= 0)])
        interval = bootstrap_mean(values.to_numpy(), photos=photographs_of(values.index))
        lines[cell.index[0]] = {**dict(zip(by, key, strict=True)), "group": group, **interval._asdict()}
    return in_order(lines)


def _take_apart(batch: MaskedBatch, dataset: MaskedDataset) -> Scenes:
    pixels = dataset.normalization.inverse(batch.images).clamp(0, 1)
    return take_apart(pixels, batch.masks, batch.undefined)


def _find_donors(
    dataset: MaskedDataset, chosen: Sequence[BackgroundSpec], seed: int, batch_size: int, workers: int
) -> dict[Donor, Tensor]:
    """For every kind of donor, the index of each image's, (N,): one pass over the data set where any is wanted."""
    kinds = {spec.donor for spec in chosen if spec.donor is not None}
    if not kinds:
        return {}
    labels, usable, ids = [], [], []
    for batch in load_batches(dataset, batch_size, workers):
        labels.append(batch.labels)
        usable.append(takes_part(_take_apart(batch, dataset)))
        ids.extend(batch.ids)
    pool = torch.cat(labels), torch.cat(usable)
    return {
        kind: choose_donors(*pool, kind, image_seeds(ids, seed, kind), len(dataset.classes)) for kind in sorted(kinds)
    }


def _read_donors(
    dataset: MaskedDataset, donors: Mapping[Donor, Tensor], batches: Indices, workers: int
) -> Iterator[tuple[dict[Donor, Tensor], dict[Donor, Scenes]]]:
    """For every batch yield which of its images have a donor (B,), and the donors, of every kind of donor.

    Where an image has no donor, its place is taken by the first image, which nobody looks at.
    """
    if not donors:
        yield from (({}, {}) for _ in batches)
        return
    picked = [{kind: found[batch] for kind, found in donors.items()} for batch in batches]
    read = load_batches(dataset, [torch.cat(list(p.values())).clamp(min=0).tolist() for p in picked], workers)
    for indices, of_kinds, batch in zip(batches, picked, read, strict=True):
        scenes = _take_apart(batch, dataset)
        parts = zip(*(t.split(len(indices)) for t in scenes), strict=True)
        lent = {kind: Scenes(*part) for kind, part in zip(donors, parts, strict=True)}
        yield {kind: found >= 0 for kind, found in of_kinds.items()}, lent


def _background(lender: Scenes, rows: Tensor) -> Tensor:
    """Some of the images without their objects, (B, C, H, W)."""
    return inpaint(lender.pixels[rows.cpu()], lender.holes[rows.cpu()])
