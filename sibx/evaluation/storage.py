"""Where the scores of an evaluation go, batch by batch: into memory, or into a folder that survives a kill."""

import gzip
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from sibx._checks import require
from sibx._files import write_atomically
from sibx.evaluation.columns import (
    COLUMNS,
    CURVE_COLUMNS,
    CURVES_FILE,
    IMAGE,
    INFO_FILE,
    LINE_END,
    ROWS_FILE,
    for_json,
    read_info,
    stacked,
    to_csv,
    write_info,
    write_table,
)
from sibx.evaluation.results import Results
from sibx.runs.alone import alone_in
from sibx.runs.identity import check_identity
from sibx.runs.ranks import gather_objects, on_first_rank, world_size

FORMAT = "sibx-evaluation-2"
MASKED = "masked"  # key of run.json: how many images have a mask


class Storage(Protocol):
    """Takes the batches of an evaluation, on every rank those that this rank computes.

    All ranks have to call ``pending`` and ``finish`` together.
    """

    def pending(self) -> list[int]:
        """Return the numbers of the batches that are still to be computed, by all ranks together."""

    def add(self, number: int, rows: pd.DataFrame, curves: pd.DataFrame) -> None:
        """Keep the tables of one batch."""

    def finish(self, info: dict[str, Any]) -> Results:
        """Return the same results on every rank; ``info`` of the first rank counts."""


class InMemory:
    """Keeps everything until the end.

    Args:
        batches: how many there are.
    """

    def __init__(self, batches: int):
        self.batches = batches
        self._parts: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = {}

    def pending(self) -> list[int]:
        """Return all numbers."""
        return list(range(self.batches))

    def add(self, number: int, rows: pd.DataFrame, curves: pd.DataFrame) -> None:
        """Keep the tables of one batch."""
        self._parts[number] = rows, curves

    def finish(self, info: dict[str, Any]) -> Results:
        """Put the batches of all ranks together."""
        parts = {number: tables for of_rank in gather_objects(self._parts) for number, tables in of_rank.items()}
        ordered = (parts[number] for number in range(self.batches))
        rows, curves = (stacked(tables) for tables in zip(*ordered, strict=True))
        return Results(rows, curves, gather_objects(info)[0] | {MASKED: count_masked(rows)})


class InFolder:
    """Writes every batch into a file of its own, which appears complete or not at all, and in the end joins them.

    While it runs the folder holds ``part-<number>.json.gz``, afterwards what ``Results.save`` writes.

    Args:
        folder: folder that all ranks share.
        identity: nested mapping of plain values that says which evaluation this is, see ``check_identity``.
        batches: how many there are.
        resume: whether batches that are already there count.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], batches: int, resume: bool):
        self.folder, self.batches, self.resume = folder, batches, resume
        self.identity: dict[str, Any] = json.loads(json.dumps(identity, default=for_json))  # as it will be read back

    def pending(self) -> list[int]:
        """Return the batches that are not there; warn of those that cannot be read.

        Raises:
            ValueError: there are results without ``resume``, or those of another evaluation; on every rank.
        """
        return on_first_rank(self._pending)

    def add(self, number: int, rows: pd.DataFrame, curves: pd.DataFrame) -> None:
        """Write one batch."""
        content = {"format": FORMAT, "identity": self.identity, "rows": to_csv(rows), "curves": to_csv(curves)}
        write_atomically(self._path(number), gzip.compress(json.dumps(content).encode(), compresslevel=1))

    def finish(self, info: dict[str, Any]) -> Results:
        """Join the batches, unless that was done before, and open the results; their tables are not read yet."""
        gather_objects(None)  # here all ranks have written theirs
        on_first_rank(lambda: self._join(info))
        return Results.open(self.folder)

    def _pending(self) -> list[int]:
        finished = self.folder / INFO_FILE
        rule = "hold no results of an earlier evaluation (resume=True continues it)"
        require(self.resume or not holds_results(self.folder), "out_dir", rule, str(self.folder))
        if finished.is_file():
            self._check_finished()
            return []
        return [number for number in range(self.batches) if not self._is_good(self._path(number))]

    def _check_finished(self) -> None:
        theirs = read_info(self.folder).get("identity", {})
        check_identity(self.identity, theirs, f"the results in {str(self.folder)!r}")

    def _is_good(self, path: Path) -> bool:
        if not path.is_file():
            return False
        try:
            content = _read(path)
        except Exception as error:  # whatever a damaged or foreign file makes of gzip and json
            problem = f"{type(error).__name__}: {error}"
            warnings.warn(f"{str(path)!r} cannot be read and is computed again ({problem})", stacklevel=7)
            return False
        check_identity(self.identity, content["identity"], f"the results in {str(path)!r}")
        return True

    def _join(self, info: dict[str, Any]) -> None:
        if (self.folder / INFO_FILE).is_file():
            self._check_finished()
        else:
            masked: list[int] = []  # of every part
            write_table(self.folder / ROWS_FILE, COLUMNS, self._counted(masked))
            write_table(self.folder / CURVES_FILE, CURVE_COLUMNS, self._blocks("curves"))
            write_info(self.folder, info | {MASKED: sum(masked), "identity": self.identity})
        for part in self.folder.glob("part-*"):
            part.unlink()

    def _counted(self, masked: list[int]) -> Iterator[str]:
        """Yield the rows of every part, and note how many of its images have a mask."""
        for block in self._blocks("rows"):
            options: dict[str, Any] = {"usecols": [*IMAGE, "area"], "dtype": dict.fromkeys(IMAGE, str)}
            options |= {"keep_default_na": False, "na_values": {"area": [""]}, "lineterminator": LINE_END}
            images = pd.read_csv(StringIO(block), names=list(COLUMNS), **options)
            masked.append(count_masked(images))
            yield block

    def _blocks(self, table: str) -> Iterator[str]:
        for path in map(self._path, range(self.batches)):
            # Another evaluation that was started here meanwhile writes parts of its own, and removes them in the end.
            require(path.is_file(), "out_dir", "be the folder of one evaluation at a time", str(self.folder))
            content = _read(path)
            check_identity(self.identity, content["identity"], f"the results in {str(path)!r}")
            yield content[table]

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.json.gz"


@contextmanager
def open_storage(
    out_dir: str | Path | None, resume: bool, batches: int, identify: Callable[[], dict[str, Any]]
) -> Iterator[Storage]:
    """Yield where the scores go; all ranks call it together. No other run may write there within the block.

    Args:
        out_dir: folder that all ranks share; None = they stay in memory.
        resume: whether batches that are already there count.
        batches: how many there are.
        identify: says which evaluation it is, see ``check_identity``.

    Raises:
        ValueError: ``resume`` without a folder, evaluations that differ between ranks, or a folder in which another run
            writes.
    """
    require(out_dir is not None or not resume, "out_dir", "be given for resume=True", None)
    if out_dir is None and world_size() == 1:
        yield InMemory(batches)
        return
    identity = identify()
    for number, theirs in enumerate(gather_objects(identity)):
        check_identity(identity, theirs, f"rank {number}")
    if out_dir is None:
        yield InMemory(batches)
        return
    with alone_in(Path(out_dir)):
        yield InFolder(Path(out_dir), identity, batches, resume)


def holds_results(folder: Path) -> bool:
    """Whether an evaluation wrote into a folder, all of it or a part."""
    return (folder / INFO_FILE).is_file() or any(folder.glob("part-*.json.gz"))


def count_masked(rows: pd.DataFrame) -> int:
    """Return how many images (of several labels: labels of images) have an object pixel in their mask."""
    images = rows.drop_duplicates(list(IMAGE))
    return int((images["area"] > 0).sum())


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    require(content["format"] == FORMAT, "format", f"be {FORMAT}", content["format"])
    return content
