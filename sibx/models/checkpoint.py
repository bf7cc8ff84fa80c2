"""Checkpoints: weights, class names and settings in one file, written atomically, read with ``weights_only``."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from sibx._checks import require

FORMAT = "sibx-checkpoint-1"


def save_checkpoint(path: str | Path, model: nn.Module, *, classes: tuple[str, ...], config: Any = None) -> None:
    """Write the model's weights with its class names and settings.

    The file appears complete or not at all: it is written beside its place and then renamed.

    Args:
        path: file to write; its folder is made if needed.
        model: whose ``state_dict`` is written.
        classes: K names.
        config: a dataclass of plain values, or None.
    """
    settings = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    content = {"format": FORMAT, "state": model.state_dict(), "classes": list(classes), "config": settings}
    save_atomically(Path(path), content)


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


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote: ``state``, ``classes`` and ``config``.

    Raises:
        ValueError: the file is missing, torn, or not a checkpoint of ours.
    """
    require(Path(path).is_file(), "path", "be a checkpoint file", str(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"`path` must be a checkpoint that can be read, but got {str(path)!r}: {error}") from error
    good = isinstance(content, dict) and content.get("format") == FORMAT
    require(good, "path", f"be a checkpoint of the format {FORMAT}", str(path))
    return dict(content)


def load_checkpoint(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load weights written by ``save_checkpoint`` into the model and return the class names and settings.

    Raises:
        ValueError: the file is missing, torn, not a checkpoint of ours, or of another architecture; the model is then
            unchanged.
    """
    content = read_checkpoint(path)
    own, loaded = model.state_dict(), content["state"]
    fits = own.keys() == loaded.keys() and all(own[k].shape == loaded[k].shape for k in own)
    require(fits, "model", "have the checkpoint's parameters and shapes", type(model).__name__)
    model.load_state_dict(loaded)
    return {"classes": tuple(content["classes"]), "config": content["config"]}
