"""Results of millions of rows: written, interrupted, resumed, read, summarized, compared and reported.

Two models that cost nothing are scored with 16 maps of noise by every metric that needs no model, on images made one by
one. Every step runs in a process of its own, because the peak of a process only grows; prints seconds of the processor
and peak memory per step and number of rows, and writes the same as CSV, with a figure.

    python benchmarks/cost/many_rows.py --rows '[500_000, 1_000_000, 2_000_000, 5_000_000]' --out results/many_rows

What was found is in ``docs/experiments/memory.md``.
"""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import Tensor

from sibx import METRICS, Results, evaluate, write_report
from sibx.datasets import SyntheticDataset
from sibx.report import to_markdown

METRICS_WITHOUT_MODEL = [name for name, spec in METRICS.items() if not spec.needs_model]
MAPS, SIDE, BATCH = 16, 16, 128
PER_IMAGE = MAPS * len(METRICS_WITHOUT_MODEL)
TRAININGS = ("first", "second")
STEPS = ("write", "resume", "load", "summary", "difference", "report")


def main(rows: list[int], out: Path = Path("results/many_rows"), step: str = "", images: int = 0) -> None:
    """Measure all steps at every number of rows.

    Args:
        rows: about how many rows, of both models together.
        out: folder for results, reports, ``many_rows.csv`` and ``many_rows.png``.
        step: the step to do in this process; empty = all, each in a process of its own.
        images: number of images of each model, for a step.
    """
    torch.set_num_threads(1)
    if step:
        do(step, out, images)
        return
    lines = []
    for count in rows:
        images = max(2 * BATCH, round(count / PER_IMAGE / len(TRAININGS)))
        folder = out / str(images)
        line: dict[str, object] = {"rows": len(TRAININGS) * images * PER_IMAGE, "images": images}
        for name in STEPS:
            seconds, peak = measure(name, folder, images)
            line |= {f"{name} s": round(seconds, 1), f"{name} MiB": peak}
        line["file MiB"] = sum(f.stat().st_size for f in folder.rglob("results.csv.gz")) // 2**20
        lines.append(line)
        table = pd.DataFrame(lines)
        table.to_csv(out / "many_rows.csv", index=False)
        draw(table, out / "many_rows.png")
        print(to_markdown(table.set_index("rows"), "rows"), flush=True)


def measure(step: str, folder: Path, images: int) -> tuple[float, int]:
    """Run a step; return seconds of the processor and peak in MiB, 0 of writing, which is stopped half way."""
    command = [sys.executable, __file__, "--rows", "[]", "--out", str(folder), "--step", step, "--images", str(images)]
    start = spent()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    half = images // BATCH // 2
    while step == "write" and process.poll() is None:
        if len(list((folder / TRAININGS[0]).glob("part-*"))) >= half:
            process.kill()
        time.sleep(0.05)
    said, _ = process.communicate()
    return spent() - start, int(said.split()[-1]) if said else 0


def spent() -> float:
    """Return the seconds of the processor that ended steps have taken: other programs hardly change them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw memory and time of every step against the number of rows."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, unit, title in zip(axes, ("MiB", "s"), ("peak memory (MiB)", "processor time (s)"), strict=True):
        for number, step in enumerate(STEPS):
            column = f"{step} {unit}"
            measured = table[table[column] > 0] if column in table else table.iloc[:0]
            if len(measured):
                axis.plot(measured["rows"] / 1e6, measured[column], f"C{number}.-", label=step)
        axis.set(xlabel="million rows", title=title, ylim=(0, 1.05 * axis.get_ylim()[1]))
    axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def do(step: str, folder: Path, images: int) -> None:
    """Do one step, and print the peak in MiB."""
    if step in ("write", "resume"):
        for training in TRAININGS:
            score(folder / training, training, images)
    else:
        read = Results.load if step == "load" else Results.open
        results = Results.concat([read(folder / training) for training in TRAININGS])
        if step == "summary":
            results.summary()
        elif step == "difference":
            results.difference(*TRAININGS)
        elif step == "report":
            write_report(results, folder / "report")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024)


def score(folder: Path, training: str, images: int) -> None:
    """Score one model, going on where it was interrupted."""
    data = SyntheticDataset("test-id", SIDE, size=images)
    maps = {f"random {i}": lambda x, _: torch.rand(len(x), 1, SIDE, SIDE) for i in range(MAPS)}
    evaluate(
        logits,
        data,
        methods=maps,
        metrics=METRICS_WITHOUT_MODEL,
        batch_size=BATCH,
        labels={"training": training},
        out_dir=folder,
        resume=True,
        progress=False,
    )


def logits(images: Tensor) -> Tensor:
    """Zeros (B, 8)."""
    return images.new_zeros(len(images), 8)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
