"""``sibx finetune``: fine_tune with its settings from options, in one process or under torchrun."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sibx._checks import require
from sibx._files import plain
from sibx.cli.listing import aligned
from sibx.cli.loading import load_data, process_group, say_how_normalized, write_notes
from sibx.cli.objective import build_training
from sibx.datasets import MaskedDataset
from sibx.datasets.base import require_masks
from sibx.images.normalization import Normalization
from sibx.models import about, build_model, scores_for
from sibx.models.checkpoint import load_checkpoint, read_about
from sibx.objectives import Share
from sibx.objectives.share import STEPS
from sibx.report import DrawMaps
from sibx.runs.ranks import rank
from sibx.train import Callback, FineTuneResult, TrainConfig, TrainingSpec, fine_tune_as
from sibx.train.config import PROGRAMS
from sibx.train.labels import count_masked
from sibx.train.loop import describe_kept


def run(args: Namespace) -> int:
    """Fine-tune a model; the first process writes and prints."""
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if f.name not in PROGRAMS}
    _keep_start(args)
    spec = build_training(args.training, args.objective_options)
    config = TrainConfig(objective=spec.objective, **given)
    with process_group(args.device) as device:
        trained_on = _trained_on(args)
        data, val_data = (load_data(args, split, args.image_size, trained_on) for split in ("train", "val"))
        of_the_data = spec.from_outside and spec.reading is None  # masks that are neither own ones nor left out
        require_masks(data, "training", [args.training] if of_the_data else [])
        start = _Start(data, config, masks=of_the_data)
        model = _starting_model(args, data, config)
        say_how_normalized(data)
        result = fine_tune_as(
            spec,
            model,
            data,
            config=config,
            val_data=val_data,
            choose_weight=args.choose_weight,
            out_dir=args.out,
            resume=args.resume,
            device=device,
            callbacks=[start, *_drawing(args, val_data)],
        )
        if rank() == 0:
            kept = {"kept": result.kept, "monitor": result.monitor, "pareto": result.pareto}
            write_notes(
                Path(args.out), _notes(args, spec, config, data) | {"masked": start.masked} | kept | _choice(result)
            )
            print(_history(result))
            for text in _chosen_epochs(result, config):
                print(text)
            print(f"{Path(args.out) / 'model.pt'} after {result.seconds:.0f} s of training")
    return 0


def _keep_start(args: Namespace) -> None:
    """Require that the trained model is not written over the one that the training starts from."""
    model = Path(args.out, "model.pt")
    for argument in ("checkpoint", "weights"):
        start = getattr(args, argument)
        same = start is not None and model.is_file() and Path(start).is_file() and model.samefile(start)
        require(not same, "out", f"be another folder than that of {argument}", args.out)


class _Start(Callback):
    """Says at the start how many images have a mask, and whether the steps are few for S-IB.

    ``masked`` is None where masks of the data play no part.
    """

    def __init__(self, data: MaskedDataset, config: TrainConfig, *, masks: bool):
        self.data, self.config, self.masks = data, config, masks
        self.masked: int | None = None

    def on_start(self, model: nn.Module, epoch: int) -> None:
        """Count the images with a mask, and the steps."""
        if self.masks:
            self.masked = count_masked(self.data, self.config.workers)
            print(f"{len(self.data)} training images, {self.masked} of them with a mask")
        steps = self.config.epochs * (len(self.data) // self.config.batch_size)
        bounded = isinstance(getattr(self.config.objective, "balance", None), Share)
        if bounded and steps < STEPS:
            much = f"{steps} step{'' if steps == 1 else 's'} of {self.config.batch_size} images"
            print(f"{much}: S-IB takes about {STEPS} to move maps (more --epochs, or a smaller --batch-size)")


def _drawing(args: Namespace, data: MaskedDataset) -> list[Callback]:
    if args.draw_maps == 0:
        return []
    return [DrawMaps(data, Path(args.out, "maps"), images=args.draw_maps, output=args.output)]


def _trained_on(args: Namespace) -> Normalization | None:
    """Return the normalization of the images that the start was trained on; None where there is no start."""
    if args.checkpoint is not None:
        return read_about(args.checkpoint).normalization
    return about(build_model(args.model, 2, args.weights)).normalization if args.weights else None


def _starting_model(args: Namespace, data: MaskedDataset, config: TrainConfig) -> nn.Module:
    torch.manual_seed(config.seed)  # a new head has random weights
    model = build_model(args.model, _scores(data, config), args.weights)
    if args.checkpoint is not None:
        classes = load_checkpoint(args.checkpoint, model)["classes"]
        require(classes == data.classes, "checkpoint", f"have the classes of {args.dataset}", classes)
    return model


def _scores(data: MaskedDataset, config: TrainConfig) -> int:
    return scores_for(len(data.classes), config.output, several=data.several_labels)


def _notes(args: Namespace, spec: TrainingSpec, config: TrainConfig, data: MaskedDataset) -> dict[str, Any]:
    """Return what ``explain`` and ``evaluate`` need to know about model.pt, and how it was made."""
    return {
        "model": args.model,
        "image_size": data[0].image.shape[-1],
        "normalization": asdict(data.normalization),
        "output": config.output,
        "scores": _scores(data, config),
        "training": args.training,
        "dataset": data.name,
        "images": len(data),
        "start": args.checkpoint or args.weights,
        "config": plain(config),
        "stages": plain({"before": spec.prepare, "after": spec.finish}),
        "versions": {name: version(name) for name in ("sibx", "torch", "torchvision")},
    }


def _choice(result: FineTuneResult) -> dict[str, Any]:
    """Return the note about the chosen share, after printing what it was chosen from."""
    if result.choice is None:
        return {}
    lines = [(f"{share:g}", f"{value:.4g}") for share, value in result.choice.values.items()]
    print(aligned([("share of S-IB's pull", result.choice.monitor), *lines]))
    print(f"chosen: {result.choice.share:g}")
    return {"choice": plain(result.choice)}


def _history(result: FineTuneResult) -> str:
    """Return one line per epoch, without gradient norms and without the classes' recall, which are in log.csv."""
    head = tuple(key for key in result.history[-1] if not key.startswith(("norm_", "val_recall[")))
    return aligned([head] + [tuple(f"{line[key]:.4g}" for key in head) for line in result.history])


def _chosen_epochs(result: FineTuneResult, config: TrainConfig) -> Iterator[str]:
    """Yield which epochs no other beats in accuracy and focus, if that was measured, and which one was kept."""
    if result.pareto:
        lines = [tuple(f"{value:.4g}" for value in line.values()) for line in result.pareto]
        yield f"not beaten in accuracy and focus:\n{aligned([tuple(result.pareto[0]), *lines])}"
    if config.keep == "best":
        yield describe_kept(result)
