"""Where and how a study runs."""

from dataclasses import dataclass
from pathlib import Path

from sibx._checks import check_integer, check_range
from sibx.datasets.holding import HELD
from sibx.studies.study import Study
from sibx.studies.typed import check_types


@dataclass(frozen=True)
class Place:
    """Where and how a study runs; its results do not depend on it, up to the rounding of the device and its threads.

    Attributes:
        root: folder of the data; not needed for ``synthetic``.
        out: folder for the study's folder.
        resume: whether to go on with what an interrupted run left there, from the start where there is nothing.
        check: whether to read all images and masks first, and to stop if some cannot be read, naming them.
        dry_run: whether to say what would run and how long it would take, and stop.
        memory: GiB of decoded images that every process may keep; what does not fit is read again whenever it is used.
        workers: number of processes beside each that read ahead what is not kept; 0 = it reads its images itself.
        threads: number of threads of torch in every process; default 1 where several processes are asked for, else
            torch's own choice.
        processes: number of processes that share the jobs, never more than there are jobs; default one per GPU, without
            GPUs one per core. Each keeps the images of one data set. Under torchrun its processes share the jobs.
        device: where to compute, such as ``cpu``; default a GPU of its own for every process, the CPU without GPUs.

    Raises:
        ValueError: settings that mean nothing.
    """

    root: str | None = None
    out: str = "results"
    resume: bool = False
    check: bool = False
    dry_run: bool = False
    memory: float = HELD
    workers: int = 0
    threads: int | None = None
    processes: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_range("memory", self.memory, 0)
        check_integer("workers", self.workers, 0)
        for name in ("threads", "processes"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)

    def root_of(self, study: Study, dataset: str) -> str | None:
        """Return the folder of a data set."""
        return None if self.root is None else str(Path(self.root, study.folders.get(dataset, "")))
