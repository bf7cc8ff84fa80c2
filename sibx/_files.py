"""Files that appear complete or not at all."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
