"""``sibx finetune``: fine_tune with its settings from options, in one process or under torchrun."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from sibx._checks import check_choice, require
from sibx.cli.listing import aligned
from sibx.cli.loading import load_data, process_group, write_notes
from sibx.datasets import MaskedDataset
from sibx.models import build_model
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GuidanceConfig, SIBConfig
from sibx.objectives.guidance import Method
from sibx.runs.ranks import rank
from sibx.train import FineTuneResult, TrainConfig, fine_tune

Objective = SIBConfig | GuidanceConfig | None

# Objective -> what it starts from, and its name in the column ``training`` of results.
OBJECTIVES: dict[str, tuple[Objective, str]] = {
    "ce": (None, "ce"),
    "recommended-given": (SIBConfig.recommended("given"), "sib"),
    "recommended-self": (SIBConfig.recommended("self"), "sib-self-cut"),
    "published": (SIBConfig.published(), "sib-published"),
    "published-script": (SIBConfig.published_script(), "sib-published-script"),
    **{method: (GuidanceConfig(method, weight=1.0), method) for method in get_args(Method)},
}


def run(args: Namespace) -> int:
    """Fine-tune; the first process writes and prints."""
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if f.name != "objective"}
    config = TrainConfig(objective=build_objective(args.objective, args.objective_options), **given)
    with process_group(args.device) as device:
        data, val_data = (load_data(args, split, args.image_size) for split in ("train", "val"))
        model = _starting_model(args, data, config.seed)
        result = fine_tune(
            model, data, config=config, val_data=val_data, out_dir=args.out, resume=args.resume, device=device
        )
        if rank() == 0:
            write_notes(Path(args.out), _notes(args, config, data))
            print(_history(result))
            print(f"{Path(args.out) / 'model.pt'} after {result.seconds:.0f} s of training")
    return 0


def build_objective(name: str, options: Sequence[str]) -> Objective:
    """Return a preset with fields replaced by ``NAME=VALUE`` options, values as in JSON or plain words.

    Raises:
        ValueError: unknown name or field, a value the field refuses, or options for ``ce``.
    """
    check_choice("objective", name, tuple(OBJECTIVES))
    preset = OBJECTIVES[name][0]
    if preset is None:
        require(not options, "objective_options", "be left out for ce, which has none", list(options))
        return None
    changes = dict(_read_option(option) for option in options)
    known = tuple(f.name for f in fields(preset) if f.name not in ("method", "mask"))
    for key in changes:
        check_choice("objective_options", key, known)
    try:
        return replace(preset, **changes)
    except (TypeError, AttributeError) as error:  # a word where a number is compared, say
        raise ValueError(f"`objective_options` must have values of the fields' types, but got {changes}.") from error


def _read_option(option: str) -> tuple[str, Any]:
    name, equals, text = option.partition("=")
    require(bool(equals), "objective_options", "be written NAME=VALUE", option)
    try:
        return name.replace("-", "_"), json.loads(text)
    except json.JSONDecodeError:
        return name.replace("-", "_"), text


def _starting_model(args: Namespace, data: MaskedDataset, seed: int) -> nn.Module:
    torch.manual_seed(seed)  # a new head has random weights
    model = build_model(args.model, len(data.classes), args.weights)
    if args.checkpoint is not None:
        classes = load_checkpoint(args.checkpoint, model)["classes"]
        require(classes == data.classes, "checkpoint", f"have the classes of {args.dataset}", classes)
    return model


def _notes(args: Namespace, config: TrainConfig, data: MaskedDataset) -> dict[str, Any]:
    """What explain and evaluate need to know of model.pt, and how it was made."""
    return {
        "model": args.model,
        "image_size": data[0].image.shape[-1],
        "normalization": asdict(data.normalization),
        "training": OBJECTIVES[args.objective][1],
        "dataset": data.name,
        "images": len(data),
        "start": args.checkpoint or args.weights,
        "objective": args.objective,
        "config": asdict(config),
        "versions": {name: version(name) for name in ("sibx", "torch", "torchvision")},
    }


def _history(result: FineTuneResult) -> str:
    """One line per epoch; the norms of gradients are in log.csv, the table would be too wide."""
    head = tuple(key for key in result.history[-1] if not key.startswith("norm_"))
    return aligned([head] + [tuple(f"{line[key]:.4g}" for key in head) for line in result.history])
