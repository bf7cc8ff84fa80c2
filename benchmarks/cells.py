"""One training and what it leaves in a folder of its own; a folder that is whole is not made again.

While a training runs, its checkpoints lie in ``<folder>/training``, so that it goes on where it was killed; on a CPU to
the same bits. They go when the folder is whole: ``run.json`` is written last.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from trainings import Plan

from sibx import Results, TrainConfig, fine_tune
from sibx.datasets import InMemoryDataset
from sibx.train import FineTuneResult


def is_whole(folder: Path) -> bool:
    """Whether a training is finished and scored."""
    return (folder / "run.json").is_file()


def start_checkpoint(
    network: nn.Module, train: InMemoryDataset, config: TrainConfig, folder: Path, val: InMemoryDataset | None = None
) -> nn.Module:
    """Return the checkpoint that trainings share, ``start.pt``: trained with cross-entropy, unless it is there.

    Beside it ``start.json`` says how the training went.
    """
    path = folder / "start.pt"
    if not path.is_file():
        result = fine_tune(network, train, config=config, val_data=val, out_dir=folder / "start-training", resume=True)
        log = {"history": result.history, "seconds": result.seconds}
        (folder / "start.json").write_text(json.dumps(log, indent=2), encoding="utf-8")
        save_weights(result.model, path)
    shutil.rmtree(folder / "start-training", ignore_errors=True)
    network.load_state_dict(
        torch.load(path, map_location="cpu", weights_only=True)
    )  # it may have been trained on another GPU
    return network


def finish_cell(
    folder: Path,
    start: nn.Module,
    plan: Plan,
    config: TrainConfig,
    val: InMemoryDataset,
    score: Callable[[FineTuneResult], Results],
) -> None:
    """Train a copy of ``start`` and score it, unless the folder is whole.

    Args:
        folder: for ``model.pt`` (a state dict) and the results.
        start: where the training starts; not changed.
        plan: what it learns from.
        config: how, but for the objective.
        val: measured after every epoch.
        score: what to say about the trained model.
    """
    if not is_whole(folder):
        data, objective = plan
        config = replace(config, objective=objective)
        result = fine_tune(start, data, config=config, val_data=val, out_dir=folder / "training", resume=True)
        save_weights(result.model, folder / "model.pt")
        score(result).save(folder)
    sweep([folder])


def sweep(folders: Iterable[Path]) -> None:
    """Remove the checkpoints of whole folders: a process may have been killed before it did so itself."""
    for folder in folders:
        shutil.rmtree(folder / "training", ignore_errors=True)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a state dict; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    torch.save(model.state_dict(), draft)
    draft.replace(path)
