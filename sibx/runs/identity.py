"""The identity of a run: digests of data and settings, and errors that name what differs."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sibx.datasets.base import MaskedDataset, spread
from sibx.runs.rng import restore_rng, rng_state, seed_rng

SAMPLES = 16  # number of samples, spread evenly, by which a data set is recognized


def check_identity(here: Mapping[str, Any], there: Mapping[str, Any], source: str) -> None:
    """Raise ValueError unless files were written by the same run; the error names the first thing that differs.

    Args:
        here: identity of this run: a nested mapping of plain values, by argument.
        there: identity of the run that wrote the files.
        source: what the files are, for the error.
    """
    ours, theirs = dict(_flat(here)), dict(_flat(there))
    for key in {**theirs, **ours}:
        was, comes = (repr(side[key]) if key in side else "absent" for side in (theirs, ours))
        if was != comes:
            argument, _, detail = key.partition(".")
            name = detail or argument
            raise ValueError(f"`{argument}` must be that of {source}, with {name} = {was}, but got {name} = {comes}.")


def digest(value: Any) -> str:
    """Return the SHA-256 of tensors and plain values, nested in mappings and sequences."""
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
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


def identify_data(data: MaskedDataset, device: torch.device) -> dict[str, Any]:
    """Return what identifies a data set, in plain values; all random generators are left in their states."""
    before = rng_state(device)
    seed_rng(0)  # for data sets whose samples are random
    samples = [tuple(data[i]) for i in spread(len(data), SAMPLES)]
    restore_rng(before, device)
    named = {"name": data.name, "split": data.split, "images": len(data), "classes": list(data.classes)}
    return named | {"samples": digest(samples)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested mapping with its dotted name."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
