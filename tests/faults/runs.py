"""Runs of a moment that write into a folder, each started and resumed by the same call, and what they leave there."""

import contextlib
import csv
import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sibx import METRICS, evaluate
from sibx.cli import UNEXPECTED, main
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.metrics import deletion
from sibx.models import TinyCNN
from sibx.studies import Place, Study, closing, run_study
from sibx.train import TrainConfig, fine_tune
from tests.helpers.bad_commands import COMMANDS, made

CONFIG = TrainConfig(
    epochs=2, batch_size=4, warm_up=1.0, ema=0.5, keep="best", augmentation="flip_crop", checkpoint_every=1
)
STUDY = Study(
    name="study",
    image_size=16,
    epochs=1,
    test_images=2,
    perturbed_images=1,
    reliance_images=2,
    options={"synthetic": {"size": 16}},
    start={"batch_size": 8},
    tune={"batch_size": 8},
    trainings=["ce", "sib-self"],
    explained=["test-id"],
    methods=["gradcam"],
    controls=["control_random"],
    localization=["foreground_focus"],
    faithfulness=[],
    batch_size=2,
)


class Run(Protocol):
    """Starts or goes on with a run in a folder; what it gives depends on the seed alone."""

    def __call__(self, folder: Path, seed: int = 0) -> None: ...


def data(split, size):
    return InMemoryDataset.load(SyntheticDataset(split, 16, size=size))


def network(seed):
    torch.manual_seed(seed)
    return TinyCNN(8, width=2)


def finetune(folder, seed=0, **options):
    net = network(seed)
    np.random.seed(seed)
    random.seed(seed)
    settings = {"config": replace(CONFIG, seed=seed), "val_data": data("val", 4), "resume": True, "progress": False}
    fine_tune(net, data("train", 12), out_dir=folder, **settings | options)


def _deletion(explained):
    e = explained
    curves = deletion(e.model, e.images, e.heatmaps, e.targets, steps=3, batch_size=e.batch_size, seed=e.seed)
    e.curves["deletion"] = curves.fractions, curves.probabilities
    return curves.auc


def score(folder, seed=0, **options):
    metrics = ["foreground_focus", replace(METRICS["deletion"], score=_deletion)]
    settings = {"methods": ["gradcam", "control_random"], "metrics": metrics, "batch_size": 2, "seed": seed}
    evaluate(network(seed), data("test-id", 9), out_dir=folder, resume=True, progress=False, **settings | options)


def study(folder, seed=0):
    closing.write_report = lambda *_, **__: Path("report.html")  # it only reads what is here
    place = Place(out=str(folder), resume=True, device="cpu", processes=1, threads=1)
    outcome = run_study(replace(STUDY, seed=seed), place)
    for failure in outcome.failed.values():
        raise OSError(failure)


def command(name):
    """A command that begins again whenever it is given; one that is killed may leave a draft."""

    def run(folder, seed=0):
        out, more = (folder / "out.pt", ["--force"]) if name == "export" else (folder, [])
        with contextlib.chdir(made()), contextlib.redirect_stdout(io.StringIO()):
            assert main([name, *COMMANDS[name], *more, "--out", str(out)]) != UNEXPECTED

    return run


ONCE: dict[str, Run] = {name: command(name) for name in ("explain", "export", "report")}
RUNS: dict[str, Run] = {"fine-tune": finetune, "evaluate": score, "study": study, **ONCE}


def kind(operation):
    """An operation on a study's files without what is by chance, by number or by training: all that one cell does."""
    return re.sub(r"\.[0-9a-f]{16}\.tmp|\d", "", operation).replace("/sib-self/", "/ce/")


def left_in(folder) -> dict[str, Any]:
    """What a run left: every file by its name below the folder, with its content but for the times that were taken."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path):
    if path.name == "log.csv":
        with path.open(newline="") as file:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.name.startswith("checkpoint-"):
        content = torch.load(path, weights_only=True)
        return repr(_without_times({k: v for k, v in content.items() if k != "sha256"}))
    return path.read_bytes()


def _without_times(value):
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in ("seconds", "elapsed")}
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    return value
