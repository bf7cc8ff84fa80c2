"""What is left behind by calls that are made again and again: memory, open files, threads, hooks, figures.

Every task runs in a process of its own, on drawn pictures of 32 px; what it holds after a fifth of its calls, when
caches are filled, is compared with what it holds in the end. Linux only.

    python benchmarks/cost/repeats.py --out docs/experiments/tables/repeats.csv
"""

import csv
import gc
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx import Results, SIBConfig, TrainConfig, build_method, build_model, evaluate, fine_tune
from sibx.attribution import resolve_methods
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.report import make_gallery, write_report
from sibx.train import Callback, Epoch

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
METRICS = ["foreground_focus", "pointing_game", "deletion", "sparseness"]
Noted = Callable[[], None]


def explain(model: nn.Module, data: InMemoryDataset, calls: int, noted: Noted) -> None:
    """Explain: all methods in turn."""
    methods, batch, targets = [], torch.stack([data[0].image, data[1].image]), torch.tensor([0, 1])
    for spec in resolve_methods("all", model):
        with suppress(ValueError):  # one that needs a layer that the network lacks
            method = build_method(spec, model)
            method.attribute(batch, target=targets)
            methods.append(method)
    for method in islice(cycle(methods), calls):
        method.attribute(batch, target=targets)
        noted()


def score(model: nn.Module, data: InMemoryDataset, calls: int, noted: Noted) -> None:
    """Evaluate, into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        for call in range(calls):
            _scores(model, data, out_dir=Path(folder, str(call)))
            noted()


def train(model: nn.Module, data: InMemoryDataset, calls: int, noted: Noted) -> None:
    """Steps of one training, with checkpoints."""
    steps = len(data) // 4

    class Note(Callback):
        def on_epoch(self, epoch: Epoch) -> None:
            for _ in range(steps):
                noted()

    config = TrainConfig(objective=SIBConfig.recommended("given"), epochs=calls // steps, batch_size=4)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(model, data, config=config, out_dir=folder, callbacks=[Note()], progress=False)


def report(model: nn.Module, data: InMemoryDataset, calls: int, noted: Noted) -> None:
    """Write reports, with a gallery and curves."""
    results = _scores(model, data)
    gallery = make_gallery({"": model}, data, methods=["gradcam"], images=2)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(calls):
            write_report(results, folder, gallery=gallery)
            noted()


TASKS: dict[Callable[[nn.Module, InMemoryDataset, int, Noted], None], int] = {
    explain: 1000,
    score: 50,
    train: 200,
    report: 100,
}


def _scores(model: nn.Module, data: InMemoryDataset, out_dir: Path | None = None) -> Results:
    return evaluate(
        model, data, methods=["sib", "gradcam"], metrics=METRICS, batch_size=4, out_dir=out_dir, progress=False
    )


def held(model: nn.Module) -> dict[str, int]:
    """What this process holds: memory in MiB, and how many of the others."""
    gc.collect()
    memory = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return {
        "MiB": int(memory[0]) // 1024,
        "open files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "hooks": sum(len(getattr(module, hooks)) for module in model.modules() for hooks in HOOKS),
        "figures": len(plt.get_fignums()),
        "tensors": sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()),
    }


def measure(task: str, calls: int) -> dict[str, str]:
    """Return a line of the table: what is held after a fifth of the calls -> in the end."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model("tiny_cnn", 8)
    data = InMemoryDataset.load(SyntheticDataset("test-id", 32, size=8))
    count, lines = 0, list[dict[str, int]]()

    def note() -> None:
        nonlocal count
        count += 1
        if count in (calls // 5, calls):
            lines.append(held(model))

    function = next(known for known in TASKS if known.__name__ == task)
    function(model, data, calls, note)
    before, after = lines
    changes = {name: f"{before[name]} -> {after[name]}" for name in before}
    return {"task": (function.__doc__ or "").rstrip("."), "calls": f"{calls}", **changes}


def main(out: Path | None = None, share: float = 1.0) -> None:
    """Write the table.

    Args:
        out: file for the table; None = it is printed alone.
        share: of the calls that are made.
    """
    lines = []
    for task, calls in TASKS.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            lines.append(pool.submit(measure, task.__name__, max(10, int(calls * share))).result())
        print(lines[-1], flush=True)
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(lines)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
