"""The identity of a run: digests of data and settings, and errors that name what differs."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sibx.datasets.base import MaskedDataset, spread
from sibx.runs.rng import restore_rng, rng_state, seed_cpu_rng, seed_rng

SAMPLES = 16  # number of samples, spread evenly, by which is recognized how files become samples
DECODED = "samples"  # what their digest is called
ROWS = 64  # samples that a worker identifies at a time
KNOWN_FILES = 2**16  # files whose digest a process remembers, at about 300 bytes each
COARSE = 2 * 10**9  # nanoseconds: file systems may note the time of a change no finer


def check_identity(here: Mapping[str, Any], there: Mapping[str, Any], source: str) -> None:
    """Raise ValueError unless files were written by the same run; the error names the first thing that differs.

    Args:
        here: identity of this run: a nested mapping of plain values, by argument.
        there: identity of the run that wrote the files.
        source: what the files are, for the error.
    """
    ours, theirs = dict(_flat(here)), dict(_flat(there))
    for key in sorted({**theirs, **ours}, key=lambda name: name.endswith(f".{DECODED}")):  # which tells the least
        was, comes = (repr(side[key]) if key in side else "absent" for side in (theirs, ours))
        if was != comes:
            argument, _, detail = key.partition(".")
            name = detail or argument
            raise ValueError(f"`{argument}` must be that of {source}, with {name} = {was}, but got {name} = {comes}.")


def digest(value: Any) -> str:
    """Return the SHA-256 of tensors, arrays and plain values, nested in mappings and sequences; a path is its file."""
    return _hashed(value).hexdigest()


def _hashed(value: Any) -> Any:
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Path):
        yield _of_file(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{key!r}:".encode()
            yield from _pieces(item)
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}:".encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield f"{value!r};".encode()


def _of_file(path: Path) -> bytes:
    """Return the SHA-256 of a file's content, which is read again only if the file's size or time is another one."""
    known = path.stat()
    fresh = time.time_ns() - known.st_mtime_ns < COARSE  # it may change once more without another time
    return (_read.__wrapped__ if fresh else _read)(path, known.st_size, known.st_mtime_ns)


@lru_cache(KNOWN_FILES)
def _read(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class _Origins(Dataset[dict[str, bytes]]):
    """Of every sample the digest of what each of its fields is made of; samples that are random get one seed."""

    def __init__(self, data: MaskedDataset):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        seed_cpu_rng(0)
        return {field: _hashed(part).digest() for field, part in self.data.origin_of(index).items()}


def identify_data(data: MaskedDataset, device: torch.device, workers: int = 0) -> dict[str, Any]:
    """Return what identifies a data set, in plain values; all random generators are left in their states.

    All of it counts, by what the data set says that its samples are made of (``MaskedDataset.origin_of``): the content
    of files, wherever they lie and whenever they were written. What says nothing is read through.

    Args:
        data: the data set.
        device: the device whose random generator is kept, too.
        workers: number of processes that read; 0 = this one. The result is the same.
    """
    before = rng_state(device)
    seed_rng(0)
    totals: dict[str, Any] = defaultdict(hashlib.sha256)
    loader = DataLoader(_Origins(data), batch_size=ROWS, num_workers=workers, collate_fn=list)
    for number, row in enumerate(chain.from_iterable(loader)):
        for field, part in row.items():
            totals[field].update(b"%d:%s" % (number, part))
    seed_rng(0)
    samples = [tuple(data[i]) for i in spread(len(data), SAMPLES)]
    restore_rng(before, device)
    named = {"name": data.name, "split": data.split, "images": len(data), "classes": list(data.classes)}
    sums = {field: total.hexdigest() for field, total in totals.items()}
    return named | {"sums": sums | {DECODED: digest(samples)}}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested mapping with its dotted name."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
