"""Runs jobs: shared by the processes of torchrun, with failures recorded, and says how long it will take."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from study import Job
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]  # exported, but not by name
from torch.distributed.rendezvous import rendezvous
from tqdm import tqdm

ERROR_FILE = "error.txt"
PATIENCE = timedelta(days=30)  # ranks wait for each other as long as a job takes
T = TypeVar("T")


class Ranks:
    """The processes that torchrun started, or this one alone.

    They share jobs, not batches: they make no process group, so that every job computes on one rank what it would
    compute alone, and a job that fails leaves no other rank waiting.

    Attributes:
        number: of this process.
        count: of all.
    """

    def __init__(self) -> None:
        self.number, self.count = 0, 1
        self._store: Store = HashStore()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self._store, self.number, self.count = next(rendezvous("env://", timeout=PATIENCE))

    def share(self, what: str, items: Sequence[T]) -> Iterator[T]:
        """Yield the next item that no rank has taken, until there is none left."""
        while (taken := self._store.add(f"{what} taken", 1) - 1) < len(items):
            yield items[taken]

    def total(self, what: str, amount: int) -> int:
        """Add an amount to what all ranks have added so far, and return that."""
        return int(self._store.add(f"{what} in total", amount))

    def wait(self, what: str) -> None:
        """Return when every rank is here."""
        if self._store.add(f"{what} reached", 1) == self.count:
            self._store.set(f"{what} reached by all", "yes")
        self._store.wait([f"{what} reached by all"], PATIENCE)


def run_jobs(
    stages: Mapping[str, Sequence[Job]],
    do: Callable[[Job], None],
    folder: Path,
    ranks: Ranks,
    seconds: Mapping[Job, float],
) -> None:
    """Do all jobs of a stage before those of the next; one that fails is recorded and the others go on.

    Args:
        stages: name -> the jobs that are left.
        do: does one.
        folder: of the study; a failed job leaves its traceback there, see ``failure``.
        ranks: who shares the jobs.
        seconds: that every job takes, roughly: in proportion, for the time that is left.
    """
    lengths = {job: max(1, round(1000 * seconds.get(job, 0))) for jobs in stages.values() for job in jobs}
    form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, about {remaining} left{postfix}"
    with tqdm(total=sum(lengths.values()), bar_format=form, smoothing=0, disable=ranks.number > 0) as bar:
        finished = 0
        for stage, jobs in stages.items():
            for job in ranks.share(stage, jobs):
                bar.set_description(str(job))
                _attempt(job, do, folder)
                finished += 1
                bar.set_postfix_str(f"{finished} jobs here", refresh=False)
                bar.update(ranks.total("milliseconds", lengths[job]) - bar.n)
            ranks.wait(stage)


def failure(job: Job, folder: Path) -> str | None:
    """Return the traceback of a job that failed, None if it did not."""
    path = _error_file(job, folder)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _attempt(job: Job, do: Callable[[Job], None], folder: Path) -> None:
    path = _error_file(job, folder)
    path.unlink(missing_ok=True)
    try:
        do(job)
    except Exception:  # whatever it is, the other jobs go on
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
        tqdm.write(f"FAILED {job}; the others go on\n{traceback.format_exc()}", file=sys.stderr)


def _error_file(job: Job, folder: Path) -> Path:
    return folder / job.folder / f"{job.training}-{ERROR_FILE}"
