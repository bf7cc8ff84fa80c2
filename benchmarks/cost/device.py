"""What sibx does on a GPU: agreement with the CPU, cost of training steps, overhead of ``evaluate``, and waits.

One call, two minutes long on an H200. Networks have random weights, so nothing is downloaded. Every row is measured by
itself: one that fails says why, the others go on, and the exit code is 1. The JSON file is written again after every
row, so a call that is cut off keeps what it has. Only the standard library and sibx's own dependencies are needed, and
timm for the vision transformer, which is left out without it.

    python benchmarks/cost/device.py
    python benchmarks/cost/device.py --rehearse --device cpu
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import torch
from agreement import agreement
from loads import CE, EXPLAINED, LOCALIZATION, OBJECTIVES, Evaluation, Sizes, Step, Workload, tf32, timed
from measured import Case, Report, Row, Section, release
from waits import waiting

PRECISIONS = ("float32", "TF32", "bfloat16")
CURVES = ("deletion", "insertion")
FRAMES = 57  # images that the two curves of one map need
SMALLEST = 4  # batch of a training step that does not fit into the memory
PACKAGES = ("sibx", "torch", "torchvision", "timm", "captum", "numpy", "pandas")
FULL = Sizes(
    networks={"resnet50": 224, "timm/vit_small_patch16_224": 224},
    classes=1000,
    compared=4,
    batch=64,
    rounds=10,
    evaluations=3,
    scored=256,
    perturbed=32,
    at_once=32,
)
REHEARSAL = Sizes(
    networks={"tiny_cnn": 64, "timm/test_vit": 160},
    classes=10,
    compared=2,
    batch=2,
    rounds=1,
    evaluations=1,
    scored=4,
    perturbed=1,
    at_once=2,
)


def training(sizes: Sizes, device: str) -> Iterator[Case]:
    """Training steps in every precision, beside the cross-entropy step of the same precision."""
    for name, precision in product(sizes.available(), PRECISIONS):
        plain: Row = {}  # of the cross-entropy step, which comes first
        for objective in OBJECTIVES:
            labels = {"network": name, "precision": precision, "step": objective}
            yield Case(labels, partial(_time_step, sizes, device, labels, plain))


def _time_step(sizes: Sizes, device: str, labels: Row, plain: Row) -> list[Row]:
    batch, note = sizes.batch, ""
    while True:
        try:
            seconds, peak = _one_step(sizes, device, labels, batch)
            break
        except torch.cuda.OutOfMemoryError:
            if batch // 2 < SMALLEST:
                raise
            note = f"{batch} images do not fit into the memory"
        release(device)  # only here the exception, which holds the tensors, is gone
        batch //= 2
    row = {"batch": batch, "images/s": batch / seconds, "peak GiB": peak, "note": note}
    if labels["step"] == CE:
        plain.update(row)
    return [row | _ratios(row, plain)]


def _one_step(sizes: Sizes, device: str, labels: Row, batch: int) -> tuple[float, float | None]:
    step = Step(Workload(sizes, labels["network"], batch, device), labels["step"], labels["precision"])
    with tf32(labels["precision"] == "TF32"):
        return timed(step, device, sizes.rounds, warm_up=min(3, sizes.rounds))


def _ratios(row: Row, plain: Row) -> Row:
    """Time per image and peak as multiples of the cross-entropy step's, where both are known for one batch size."""
    if not plain:
        return {}
    same = plain["batch"] == row["batch"] and row["peak GiB"] is not None
    return {
        "time / CE": plain["images/s"] / row["images/s"],
        "peak / CE": row["peak GiB"] / plain["peak GiB"] if same else None,
    }


def overhead(sizes: Sizes, device: str) -> Iterator[Case]:
    """What ``evaluate`` takes, against the passes alone; in torch's own precision."""
    evaluation = cache(partial(Evaluation, sizes, device))
    yield Case({"what": "drawing the images, on the CPU"}, partial(_time_drawing, evaluation))
    for title, kind in (("images in memory", "kept"), ("images drawn as they come", "drawn")):
        labels = {"what": f"{len(LOCALIZATION)} localization metrics, {title}"}
        yield Case(labels, partial(_time_evaluation, evaluation, kind, LOCALIZATION))
    labels = {"what": "deletion and insertion, images in memory"}
    yield Case(labels, partial(_time_evaluation, evaluation, "some", CURVES))


def _time_drawing(evaluation: Callable[[], Evaluation]) -> list[Row]:
    data = evaluation().drawn
    seconds, _ = timed(lambda: [data[i] for i in range(len(data))], "cpu", evaluation().rounds)
    return [{"images": len(data), "alone, images/s": len(data) / seconds}]


def _time_evaluation(evaluation: Callable[[], Evaluation], kind: str, metrics: Sequence[str]) -> list[Row]:
    work = evaluation()
    data, count = getattr(work, kind), len(getattr(work, kind))
    batches, frames = work.on_device(work.some if kind == "some" else work.kept), FRAMES if metrics == CURVES else 0
    alone, _ = timed(lambda: work.passes(batches, frames), work.device, work.rounds)
    whole, _ = timed(lambda: work(data, metrics), work.device, work.rounds)
    rates = {"alone, images/s": count / alone, "evaluate, images/s": count / whole}
    return [{"images": count, **rates, "time / alone": whole / alone}]


SECTIONS = (
    Section(
        "Agreement with the CPU: relative L2 differences in float32 and, marked 64, in float64",
        ("network", "what", "device - CPU", "device - CPU64", "CPU - CPU64", "device64 - CPU64"),
        agreement,
    ),
    Section(
        "Training steps",
        ("network", "precision", "step", "batch", "images/s", "time / CE", "peak GiB", "peak / CE"),
        training,
    ),
    Section(
        f"evaluate of {', '.join(EXPLAINED)}, against their passes alone",
        ("what", "images", "alone, images/s", "evaluate, images/s", "time / alone"),
        overhead,
    ),
    Section("Waits for the device", ("network", "call", "waits", "where"), waiting),
)


def describe(device: str) -> Row:
    """What was measured, with what, and when."""
    found: Row = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"device": name, "type": device, "threads": torch.get_num_threads(), "date": date, "versions": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all sections; returns 1 if a row failed."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, one thread: whether all of it runs")
    parser.add_argument("--out", type=Path, default=Path("results/device.json"))
    parser.add_argument("--budget", type=float, default=420, help="seconds after which no further row is measured")
    options = parser.parse_args(arguments)
    if options.rehearse:
        torch.set_num_threads(1)
    sizes = REHEARSAL if options.rehearse else FULL
    about = describe(options.device) | {"rehearsal": options.rehearse, "sizes": asdict(sizes)}
    print(f"{about['device']}, {', '.join(f'{k} {v}' for k, v in about['versions'].items())}, {about['date']}")
    report = Report(options.out, about, start + options.budget)
    for section in SECTIONS:
        report.fill(section, sizes, options.device)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
