"""The steps of a training of the workbench, one after the other: its pictures, then the commands that the page shows.

``python -m sibx.cli.steps FOLDER``; the workbench starts it, with a lock on the folder that ends with the process.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._lesson import PARTS, Lesson, as_typed, read_lesson, read_splits, words_of
from sibx.app._processes import STOP, State, last_words, read_state, write_state
from sibx.app._snapshot import write_snapshot
from sibx.cli import INTERRUPTED, main
from sibx.cli.loading import Classifier, from_checkpoint, from_weights
from sibx.cli.question import find_normalization
from sibx.datasets import MaskedDataset
from sibx.objectives import Frozen, SIBConfig, self_masks
from sibx.train import TRAININGS
from sibx.train.trainings import Layers

PATIENT = 5  # niceness: the page answers first
COTANGENTS = 36  # at most, for own masks: exact up to 37 classes


def run(folder: Path) -> None:
    """Do the steps that are left, and note every one that is done."""
    lesson, done = read_lesson(folder), read_state(folder).done
    write_state(folder, State("running", done, os.getpid()))
    try:
        commands = lesson.commands(folder)
        for number in range(done, 1 + len(commands)):
            if (folder / STOP).exists():
                raise KeyboardInterrupt
            code = _command(commands[number - 1]) if number else _prepare(lesson, folder)
            if code == INTERRUPTED:
                raise KeyboardInterrupt
            if code:
                write_state(folder, State("failed", number, said=last_words(folder)))
                return
            write_state(folder, State("running", number + 1, os.getpid()))
        write_state(folder, State("finished", 1 + len(commands)))
    except KeyboardInterrupt:
        write_state(folder, State("stopped", read_state(folder).done))


def _command(words: list[str]) -> int:
    print(f"$ {as_typed(words)}", flush=True)
    return main(words)


def _prepare(lesson: Lesson, folder: Path) -> int:
    """Write the pictures; return the exit code."""
    print("writing the pictures", flush=True)
    try:
        classifier = _load(lesson.network)
        options = {"normalization": find_normalization(classifier)}
        parts = {p: read_splits(lesson.dataset, lesson.root, p, lesson.image_size, **options) for p in PARTS}
        drawn = Corrections(corrections_folder(folder.parent.parent), parts["train"][0]).masks()

        def own(images: MaskedDataset) -> Tensor:
            config = _reading(lesson.layers)
            return self_masks(classifier.model, images, config=config, output=classifier.output(None), progress=False)

        write_snapshot(folder / "data", lesson, parts, drawn, own)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


def _reading(layers: Layers) -> SIBConfig:
    """Return how own masks are read, as for the training ``sib-self-cut``, at few cotangents of many classes."""
    config = TRAININGS["sib-self-cut"].at(layers).reading
    assert config is not None
    assert isinstance(config.masks, Frozen)
    return replace(config, masks=replace(config.masks, cotangents=COTANGENTS))


def _load(network: tuple[str, ...]) -> Classifier:
    named = words_of(network)
    if "checkpoint" in named:
        return from_checkpoint(named["checkpoint"], named.get("model"))
    return from_weights(named.get("model"), named.get("weights"), int(named["num-classes"]))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background has them ignored
        signal.signal(number, signal.default_int_handler)
    os.nice(PATIENT)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    run(Path(sys.argv[1]))
