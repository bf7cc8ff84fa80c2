"""Runs a study: its jobs, shared by processes, and in the end all scores in one place."""

import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sibx._checks import require
from sibx._files import write_atomically
from sibx._progress import bar_over
from sibx.datasets.broken import check_samples
from sibx.runs.alone import alone_in
from sibx.runs.identity import check_identity
from sibx.runs.place import named_device
from sibx.studies.board import PATIENCE, Board, join_torchrun, open_store
from sibx.studies.closing import Outcome, put_together
from sibx.studies.crew import assisted, count_places, limited_threads
from sibx.studies.job import Job, left_of
from sibx.studies.study import Study
from sibx.studies.study_bench import Workbench, build_splits
from sibx.studies.study_place import Place

POLL = 0.1  # seconds between looks at what other processes have done
GROWING = ("dataset", "model", "seed", "trainings", "compare")
FORM = "{n_fmt} of {total_fmt} jobs |{bar}| {elapsed}, about {remaining} left: {desc}"


def run_study(study: Study, place: Place) -> Outcome | None:
    """Do what is left of a study, and put all of it together.

    The jobs are shared by processes of this machine (``place.processes``), or by those that torchrun started. A job
    that fails is recorded and the others go on; so is the job of a process that dies. Every process computes with the
    same number of threads, and a job gives the same numbers whichever process does it.

    Args:
        study: what is asked for.
        place: where and how it runs.

    Returns:
        What came out; None on all but the first of torchrun's processes.

    Raises:
        ValueError: settings that mean nothing, an earlier run in ``out`` that ``resume`` does not ask to continue, the
            run of another study there, or another run that writes there at the moment.
    """
    study.check()
    begun = time.perf_counter()
    store, number, ranks = join_torchrun()
    require(ranks == 1 or place.processes is None, "processes", "be left to torchrun", place.processes)
    folder, jobs = Path(place.out) / study.title, study.jobs()
    if number == 0 and place.check:
        _check_data(study, place)
    with alone_in(folder if number == 0 else None, "out"):
        if number == 0:
            open_folder(study, folder, jobs, place.resume)
            store.set("folder", "open")
        store.wait(["folder"], PATIENCE)
        left = left_of(jobs, folder)
        processes = ranks if ranks > 1 else place.processes or count_places(place.device)
        helpers = min(processes, len(left)) - 1 if ranks == 1 else 0
        if helpers > 0:
            store = open_store()
        with limited_threads(place.threads or (1 if processes > 1 else None)):
            board = Board(store, number, folder, left)
            task = partial(assist, study, place, folder, left, torch.get_num_threads(), getattr(store, "port", 0))
            with assisted(board, helpers, task):
                work(study, place, board)
        return None if number else put_together(study, folder, jobs, begun)


def _check_data(study: Study, place: Place) -> None:
    """Require images and masks of all data sets that can be read."""
    for dataset in study.datasets:
        for data in build_splits(study, place, dataset).values():
            check_samples(data, place.workers)


def open_folder(study: Study, folder: Path, jobs: Sequence[Job], resume: bool) -> None:
    """Note whose folder it is; jobs that failed in an earlier run will be tried again.

    Raises:
        ValueError: there are results of an earlier run without ``resume``, or those of another study with it.
    """
    path, ours = folder / "study.json", study.identify()
    if path.is_file():
        require(resume, "out", "hold no earlier run (resume continues it)", str(folder))
        theirs = _read_settings(path)
        check_identity(_fixed(ours), _fixed(theirs), f"the study in {str(folder)!r}")
    write_atomically(path, (json.dumps(ours, indent=2) + "\n").encode())
    for job in jobs:
        job.forgive(folder)


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of the study that began a folder.

    Raises:
        ValueError: they cannot be read, with what to do.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        require(isinstance(settings, dict), "out", "hold a study.json of settings", settings)
    except ValueError as error:  # no JSON, or no UTF-8
        way = "if these are the study's settings, delete the file: resume writes it anew, and goes on"
        raise ValueError(
            f"`out` must hold a study.json that can be read, but got {str(path)!r}: {error}; {way}."
        ) from error
    return dict(settings)


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the jobs of a folder share; of the others there may be more when a study goes on."""
    return {name: value for name, value in settings.items() if name not in GROWING}


def work(study: Study, place: Place, board: Board) -> None:
    """Do jobs as long as there are any; the first process then waits for those of the others, and shows progress."""
    first = board.number == 0
    bench = Workbench(study, place, board.folder, named_device(place.device, board.number), progress=first)
    if not first and board.jobs:
        bench.prepare(board.jobs[0])  # while the first process does the job that all others need
    with bar_over(None, shown=first, total=len(board.jobs), bar_format=FORM, leave=True) as bar:
        while not (board.has_ended() if first else board.is_over()):
            job = board.take()
            if job is None:
                time.sleep(POLL)
            else:
                bar.set_description_str(str(job))
                attempt(job, bench, board.folder)
            bar.update(board.ended - bar.n)


def assist(study: Study, place: Place, folder: Path, jobs: list[Job], threads: int, port: int, number: int) -> None:
    """Do jobs in a process beside the first one; ``port`` is that of the store by which they share them."""
    torch.set_num_threads(threads)
    work(study, place, Board(open_store(port), number, folder, jobs))


def attempt(job: Job, bench: Workbench, folder: Path) -> None:
    """Do a job; if it fails, note that."""
    try:
        bench.do(job)
    except Exception:  # whatever it is, the other jobs go on
        job.fail(folder, traceback.format_exc())
        tqdm.write(f"FAILED {job}; the others go on\n{traceback.format_exc()}", file=sys.stderr)
