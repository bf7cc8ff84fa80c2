"""Resident memory over few and many pictures on disk, and what loader workers gain.

Draws folders of small pictures with masks, and fine-tunes with the data's masks and with the network's own, evaluates,
asks for other backgrounds, and runs a small study that may keep nothing in memory. Every task runs in a process of its
own, because the peak of a process only grows; it is that of this process, without its loader workers. Then an
evaluation of larger pictures, which decoding dominates, is timed with workers. Linux only.

    python benchmarks/cost/memory.py --folder FOLDER
"""

import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli
from PIL import Image

from sibx import (
    SIBConfig,
    Study,
    TrainConfig,
    build_dataset,
    build_model,
    evaluate,
    evaluate_reliance,
    fine_tune,
    run_study,
)
from sibx.studies import Place

CLASSES = ("left", "right")
LARGE = 448  # side in pixels of the pictures that workers decode
TRAINING = TrainConfig(epochs=1, batch_size=64, log_gradient_norms=False)


def draw_folder(root: Path, pictures: int, side: int) -> None:
    """Draw squares on noise, with masks, and an index: eight of ten pictures train, the others validate and test."""
    lines = ["image,mask,label,split"]
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(pictures):
        rng = np.random.default_rng(number)
        picture, mask = rng.integers(0, 160, (side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
        label, top = number % 2, int(rng.integers(0, side // 2))
        mask[top : top + side // 3, side // 8 + label * side // 2 :][:, : side // 3] = 255
        Image.fromarray(np.maximum(picture, mask[..., None] // 2)).save(root / "images" / f"{number}.jpg")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        split = ("val", "test")[number % 10 - 8] if number % 10 >= 8 else "train"
        lines.append(f"images/{number}.jpg,masks/{number}.png,{CLASSES[label]},{split}")
    (root / "index.csv").write_text("\n".join(lines))


def train_given(root: str, side: int, workers: int) -> None:
    """Fine-tune with the masks of the data."""
    _train(root, side, replace(TRAINING, objective=SIBConfig.recommended("given"), workers=workers))


def train_own(root: str, side: int, workers: int) -> None:
    """Fine-tune with the network's own masks."""
    _train(root, side, replace(TRAINING, objective=SIBConfig.recommended("self"), workers=workers))


def score(root: str, side: int, workers: int) -> None:
    """Explain all pictures and score the maps."""
    data, model = build_dataset("folder", root, "all", side), build_model("tiny_cnn", 2)
    with tempfile.TemporaryDirectory() as folder:
        evaluate(
            model,
            data,
            methods=["gradcam"],
            metrics=["foreground_focus", "pointing_game"],
            out_dir=Path(folder, "scores"),
            batch_size=64,
            workers=workers,
            progress=False,
        )


def rely(root: str, side: int, workers: int) -> None:
    """Put all objects on other backgrounds."""
    data, model = build_dataset("folder", root, "all", side), build_model("tiny_cnn", 2)
    with tempfile.TemporaryDirectory() as folder:
        evaluate_reliance(
            model,
            data,
            backgrounds=["only_fg", "mixed_rand"],
            out_dir=Path(folder, "scores"),
            batch_size=64,
            workers=workers,
            progress=False,
        )


def study(root: str, side: int, workers: int) -> None:
    """Compare two trainings with their start, everything read from disk."""
    asked = Study(
        name="memory",
        dataset="folder",
        image_size=side,
        trainings=["sib", "sib-shuffled"],
        epochs=1,
        start={"batch_size": 64},
        tune={"batch_size": 64},
        methods=["gradcam"],
        controls=["control_random"],
        faithfulness=[],
        perturbed_images=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_study(asked, Place(root=root, out=folder, processes=1, memory=0.0, workers=workers, device="cpu"))


TASKS = (train_given, train_own, score, rely, study)


def _train(root: str, side: int, config: TrainConfig) -> None:
    data, val = (build_dataset("folder", root, split, side) for split in ("train", "val"))
    fine_tune(build_model("tiny_cnn", 2), data, config=config, val_data=val, progress=False)


def measured(task: Callable[[str, int, int], None], root: Path, side: int, workers: int) -> tuple[int, float]:
    """Run a task in a new process; return the peak of its resident memory in MiB, and the seconds that it took."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, task, str(root), side, workers).result()


def _measure(task: Callable[[str, int, int], None], root: str, side: int, workers: int) -> tuple[int, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.perf_counter()
    task(root, side, workers)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024, seconds


def main(
    folder: Path | None = None,
    pictures: tuple[int, int] = (2000, 20000),
    side: int = 32,
    large: int = 400,
    workers: tuple[int, ...] = (0, 1, 2),
) -> None:
    """Print the tables.

    Args:
        folder: where the pictures are drawn, and found again; None = a temporary one.
        pictures: how few and how many.
        side: of a picture in pixels.
        large: number of larger pictures that are timed.
        workers: how many loader workers they are timed with.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        few, many = (_drawn(place / f"{count}-of-{side}", count, side) for count in pictures)
        print(f"| peak MiB of the process (seconds) | {pictures[0]} pictures | {pictures[1]} | ratio of MiB |")
        print("|---|---|---|---|", flush=True)
        for task in TASKS:
            (less, short), (more, long) = (measured(task, root, side, 0) for root in (few, many))
            what = (task.__doc__ or "").rstrip(".")
            print(f"| {what} | {less} ({short:.0f}) | {more} ({long:.0f}) | {more / less:.2f} |", flush=True)
        _print_gain(_drawn(place / f"{large}-of-{LARGE}", large, LARGE), large, workers)


def _print_gain(root: Path, count: int, workers: tuple[int, ...]) -> None:
    print(f"\n| loader workers, {count} pictures of {LARGE} x {LARGE} | seconds | times as fast |\n|---|---|---|")
    first = 0.0
    for number in workers:
        _, seconds = measured(score, root, LARGE // 2, number)
        first = first or seconds
        print(f"| {number} | {seconds:.1f} | {first / seconds:.2f} |", flush=True)


def _drawn(root: Path, pictures: int, side: int) -> Path:
    if not (root / "index.csv").is_file():
        draw_folder(root, pictures, side)
    return root


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
