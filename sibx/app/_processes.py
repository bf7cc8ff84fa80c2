"""Trainings in the background: processes that go on when the page, or the server, does not."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Literal, get_args

from sibx._checks import require
from sibx._files import write_atomically
from sibx.app._lesson import TRAININGS, Lesson, read_lesson, run_folder, write_lesson
from sibx.evaluation.columns import naming
from sibx.runs.alone import alone_in, handed_on, is_held

STATE, LOG, STOP = "state.json", "log.txt", "stop"
PROGRAM = "sibx.cli.steps"  # what does the work, ``python -m``; it writes the state
LAST_LINES = 12  # of the log

Status = Literal["not begun", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class State:
    """How far a training has come.

    Attributes:
        status: what is the case now; ``stopped`` also where its process was killed.
        done: how many steps are done: the pictures, then the commands.
        process: number of the process that does it, or did; 0 while it starts.
        said: the last lines that it said, where it failed.
    """

    status: Status = "not begun"
    done: int = 0
    process: int = 0
    said: str = ""


def trainings_in(out_dir: Path) -> list[Path]:
    """Return the folders of the trainings of a workbench, the oldest first."""
    found = [path for path in (out_dir / "trainings").glob("*") if (path / "lesson.json").is_file()]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def next_folder(out_dir: Path) -> Path:
    """Return the folder that the next training of a workbench gets."""
    taken = {path.name for path in (out_dir / "trainings").glob("*")}
    return out_dir / "trainings" / next(str(n) for n in count(1) if str(n) not in taken)


def begin(out_dir: Path, lesson: Lesson) -> Path:
    """Start a training in a new folder; return the folder.

    Raises:
        ValueError: another training of this workbench is running.
    """
    with _none_running(out_dir):
        folder = next_folder(out_dir)
        write_lesson(lesson, folder)
        _start(folder)
    return folder


def go_on(out_dir: Path, folder: Path) -> None:
    """Go on with a training that was stopped, that failed, or that was killed.

    Raises:
        ValueError: a training of this workbench is running.
    """
    with _none_running(out_dir):
        read_lesson(folder)
        _start(folder)


def stop(folder: Path) -> None:
    """Interrupt a training: no epoch that is finished is lost, and ``go_on`` does the others."""
    (folder / STOP).touch()  # for a process that is still starting
    state = read_state(folder)
    if state.status == "running" and state.process:
        with suppress(ProcessLookupError):
            os.kill(state.process, signal.SIGINT)


def read_state(folder: Path) -> State:
    """Return how far a training has come.

    Raises:
        ValueError: it cannot be read.
    """
    path = folder / STATE
    if not path.is_file():
        return State("running") if is_held(folder) else State()
    with naming(path):
        found = State(**json.loads(path.read_text(encoding="utf-8")))
        require(found.status in get_args(Status), "status", f"be one of {', '.join(get_args(Status))}", found.status)
    if found.status == "running" and not is_held(folder):  # killed
        return State("stopped", found.done, found.process)
    return found


def write_state(folder: Path, state: State) -> None:
    """Note how far a training has come."""
    content = {name: getattr(state, name) for name in State.__dataclass_fields__}
    write_atomically(folder / STATE, (json.dumps(content) + "\n").encode())


def read_curves(folder: Path) -> Mapping[str, Sequence[Mapping[str, float]]]:
    """Return training -> one line per finished epoch, as far as there are any.

    Raises:
        ValueError: they cannot be read.
    """
    found = {}
    for name in TRAININGS:
        path = run_folder(folder, name) / "log.csv"
        if path.is_file():
            with naming(path), path.open(newline="", encoding="utf-8") as file:
                found[name] = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return found


def drawn_maps(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Return training -> pictures of the same maps before the first epoch and after every one."""
    found = {name: sorted((run_folder(folder, name) / "maps").glob("epoch-*.png")) for name in TRAININGS}
    return {name: paths for name, paths in found.items() if paths}


def last_words(folder: Path) -> str:
    """Return the last lines that a training said."""
    path = folder / LOG
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def _none_running(out_dir: Path) -> Iterator[None]:
    """Require that no training is running; within the block no other one starts, as two pages may ask at once."""
    with alone_in(out_dir / "trainings", "out"):
        running = [path.name for path in trainings_in(out_dir) if read_state(path).status == "running"]
        require(not running, "out", "hold no training that is running (stop it first)", running)
        yield


def _start(folder: Path) -> None:
    """Start the process, in a session of its own: what ends the server does not end it."""
    with handed_on(folder, "out") as lock, (folder / LOG).open("ab") as log:
        done = read_state(folder).done
        (folder / STOP).unlink(missing_ok=True)
        write_state(folder, State("running", done))
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=lock,
        )
    Thread(target=process.wait, daemon=True).start()  # so that it leaves nothing behind when it ends
