"""What a study consists of: jobs, each done when its file is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sibx._files import write_atomically

START = "start"  # the job whose checkpoint the others of its group start from
PARTS = 8  # that the images are cut into for reading own masks, so that processes can share them


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that share data, model and seed, and so the checkpoint they start from."""

    dataset: str
    model: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where the checkpoint and the trainings lie, below the study's folder."""
        model = self.model.replace("/", "-").replace(":", "-")
        return Path("cells", f"{self.dataset}-{model}", f"seed-{self.seed}")

    def __str__(self) -> str:
        return f"{self.dataset}, {self.model}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work that one process does.

    Attributes:
        group: whose.
        kind: ``start`` trains the checkpoint, ``masks`` reads one part of the checkpoint's own masks, ``training``
            trains and scores.
        name: what it is called within its group: a training by its own name.
        needs: jobs that have to be done before.
        reading: the first training that learns from the masks that are read.
        part: which part of the images the masks are read of, counted from 0.
    """

    group: Group
    kind: Literal["start", "masks", "training"]
    name: str
    needs: tuple["Job", ...] = ()
    reading: str = ""
    part: int = 0

    @property
    def file(self) -> Path:
        """What is there, below the study's folder, when the job is done."""
        return self.group.folder / (f"{self.name}/run.json" if self.kind == "training" else f"{self.name}.pt")

    @property
    def folder(self) -> Path:
        """What a training leaves, below the study's folder."""
        return self.group.folder / self.name

    @property
    def leftovers(self) -> Path | None:
        """Where unfinished work lies, below the study's folder, of which nothing is needed when the job is done."""
        names = {"start": f"{START}-training", "training": f"{self.name}/training"}
        return self.group.folder / names[self.kind] if self.kind in names else None

    def is_done(self, folder: Path) -> bool:
        """Whether it has been done, in the study's folder."""
        return (folder / self.file).is_file()

    def is_lost(self, folder: Path) -> bool:
        """Whether it has failed, or waits for a job that has."""
        return self._error(folder).is_file() or any(need.is_lost(folder) for need in self.needs)

    def failure(self, folder: Path) -> str | None:
        """Return the traceback of a job that failed, None if it did not."""
        path = self._error(folder)
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def fail(self, folder: Path, text: str) -> None:
        """Note that the job failed, and why."""
        path = self._error(folder)
        write_atomically(path, text.encode(errors="replace"))

    def forgive(self, folder: Path) -> None:
        """Forget that it failed: it is tried again."""
        self._error(folder).unlink(missing_ok=True)

    def _error(self, folder: Path) -> Path:
        return folder / self.group.folder / f"{self.name}-error.txt"

    def __str__(self) -> str:
        return f"{self.group}, {self.name}"


def jobs_of(group: Group, trainings: Mapping[str, str | None], *, checkpoint: bool) -> list[Job]:
    """Return the jobs of a group, in the order in which they should be begun.

    Args:
        group: whose.
        trainings: name -> the first training that learns from the same own masks; None = it learns from none.
        checkpoint: whether they start from a checkpoint that is trained first.
    """
    start = (Job(group, "start", START),) if checkpoint else ()
    masks = {
        reading: tuple(
            Job(
                group=group,
                kind="masks",
                name=f"masks-of-{reading}-part-{part + 1}",
                needs=start,
                reading=reading,
                part=part,
            )
            for part in range(PARTS)
        )
        for reading in dict.fromkeys(filter(None, trainings.values()))
    }
    cells = [
        Job(group, "training", training, start if reading is None else masks[reading])
        for training, reading in trainings.items()
    ]
    return [*start, *(job for parts in masks.values() for job in parts), *cells]


def left_of(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Return the jobs that are still to be done; own masks only where a training still needs them."""
    undone = [job for job in jobs if not job.is_done(folder)]
    needed = {need for job in undone if job.kind == "training" for need in job.needs}
    return [job for job in undone if job.kind != "masks" or job in needed]
