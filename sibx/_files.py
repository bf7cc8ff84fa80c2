"""Files that appear complete or not at all, and settings turned into values that a file can hold."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from numbers import Number
from pathlib import Path
from typing import Any, BinaryIO

import torch


def save_atomically(path: Path, content: Any) -> None:
    """``torch.save`` to a file that appears complete or not at all."""
    stream = io.BytesIO()
    torch.save(content, stream)
    write_atomically(path, stream.getbuffer())


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file that appears complete or not at all, even if the machine stops; its folder is made if needed."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write; it appears when the block ends, and not at all if the block or the machine fails.

    Its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def plain(value: Any) -> Any:
    """Return settings as values that files can hold.

    A dataclass becomes a dict with the name of its class under ``kind``, a mapping becomes a dict, and a tuple becomes
    a list. Anything else that is not plain, for example a function, is replaced by its name.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    is_plain = value is None or isinstance(value, str | Number)
    return value if is_plain else str(getattr(value, "__qualname__", type(value).__qualname__))
