"""Who does which job: every process takes the next one that can be done and that nobody has taken."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from torch.distributed import HashStore, Store, TCPStore  # type: ignore[attr-defined]  # exported, but not by name
from torch.distributed.rendezvous import rendezvous

from sibx.studies.job import Job

HERE = "127.0.0.1"
PATIENCE = timedelta(days=30)  # processes wait for each other as long as a job takes


class Board:
    """The jobs of a study, as one of the processes sees them.

    What is done and what has failed is read off the study's folder, which all processes share. Only who has taken what
    they tell each other, through a store: they make no process group, so that every job computes in one process what it
    would compute alone, and a job that fails, or a process that dies, leaves no other one waiting.

    Args:
        store: what the processes share.
        number: which process this is, counted from 0.
        folder: folder of the study.
        jobs: that are left, the same in all processes, in the order in which they should be begun.
    """

    def __init__(self, store: Store, number: int, folder: Path, jobs: Sequence[Job]):
        self.number, self.folder, self.jobs = number, folder, jobs
        self._store = store
        self._ended: set[Job] = set()

    def take(self) -> Job | None:
        """Return a job that this process is to do now, None if there is none at the moment."""
        for job in self.jobs:
            open_to_all = not self._has_ended(job) and all(need.is_done(self.folder) for need in job.needs)
            if open_to_all and self._owner(job) is None and self._claim(job):
                return job
        return None

    def is_over(self) -> bool:
        """Whether there is nothing left that this process could ever take."""
        return all(self._has_ended(job) or self._owner(job) is not None for job in self.jobs)

    def has_ended(self) -> bool:
        """Whether all jobs are done, have failed, or wait for one that has."""
        return self.ended == len(self.jobs)

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return sum(self._has_ended(job) for job in self.jobs)

    def give_up(self, number: int, why: str) -> None:
        """Note that a process is gone: what it took and did not finish has failed."""
        for job in self.jobs:
            if self._owner(job) == number and not self._has_ended(job):
                job.fail(self.folder, why)

    def _has_ended(self, job: Job) -> bool:
        if job not in self._ended and (job.is_done(self.folder) or job.is_lost(self.folder)):
            self._ended.add(job)
        return job in self._ended

    def _claim(self, job: Job) -> bool:
        return int(self._store.compare_set(f"{job}", "", f"{self.number}")) == self.number

    def _owner(self, job: Job) -> int | None:
        return int(self._store.get(f"{job}")) if self._store.check([f"{job}"]) else None


def join_torchrun() -> tuple[Store, int, int]:
    """Return the store of the processes that torchrun started, this one's number and their count; or of this alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return HashStore(), 0, 1
    store, number, count = next(rendezvous("env://", timeout=PATIENCE))
    return store, number, count


def open_store(port: int | None = None) -> TCPStore:
    """Open a store for processes on this machine (None), or connect to the one at a port."""
    return TCPStore(HERE, port or 0, is_master=port is None, wait_for_workers=False, timeout=PATIENCE)
