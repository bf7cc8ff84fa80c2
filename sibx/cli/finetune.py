"""``sibx finetune``: fine_tune with its settings from options, in one process or under torchrun."""

from argparse import Namespace
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sibx._checks import require
from sibx._files import plain
from sibx.cli.listing import aligned
from sibx.cli.loading import load_data, process_group, write_notes
from sibx.cli.objective import build_training
from sibx.datasets import MaskedDataset
from sibx.datasets.base import require_masks
from sibx.models import build_model, scores_for
from sibx.models.checkpoint import load_checkpoint
from sibx.runs.ranks import rank
from sibx.train import FineTuneResult, TrainConfig, TrainingSpec, fine_tune_as
from sibx.train.config import PROGRAMS


def run(args: Namespace) -> int:
    """Fine-tune a model; the first process writes and prints."""
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if f.name not in PROGRAMS}
    spec = build_training(args.training, args.objective_options)
    config = TrainConfig(objective=spec.objective, **given)
    with process_group(args.device) as device:
        data, val_data = (load_data(args, split, args.image_size) for split in ("train", "val"))
        of_the_data = spec.from_outside and spec.reading is None  # masks that are neither own ones nor left out
        require_masks(data, "training", [args.training] if of_the_data else [])
        model = _starting_model(args, data, config)
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
        )
        if rank() == 0:
            write_notes(Path(args.out), _notes(args, spec, config, data) | _choice(result))
            print(_history(result))
            print(f"{Path(args.out) / 'model.pt'} after {result.seconds:.0f} s of training")
    return 0


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
    lines = [(f"{share:g}", f"{accuracy:.4g}") for share, accuracy in result.choice.accuracies.items()]
    print(aligned([("share of S-IB's pull", "accuracy on val"), *lines]))
    print(f"chosen: {result.choice.share:g}")
    return {"choice": plain(result.choice)}


def _history(result: FineTuneResult) -> str:
    """Return one line per epoch, without the gradient norms, which are in log.csv."""
    head = tuple(key for key in result.history[-1] if not key.startswith("norm_"))
    return aligned([head] + [tuple(f"{line[key]:.4g}" for key in head) for line in result.history])
