"""Files that appear complete or not at all, and settings turned into values that a file can hold."""

import hashlib
import io
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from numbers import Number
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

LONGEST_NAME = 255  # bytes of a name on most file systems
DRAFT = re.compile(r".+\.[0-9a-f]+\.tmp")  # what ``atomic_file`` writes into


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

    Its folder is made if needed. A block that fails, or that Ctrl-C ends, leaves nothing behind. It is written beside
    its place, as ``<name>.<random>.tmp``: a file that is made anew and that no link can lead elsewhere, so that nobody
    who writes into the folder can have another file overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = f".{secrets.token_hex(8)}.tmp"
    draft = path.with_name(shortened(path.name, LONGEST_NAME - len(ending)) + ending)
    file = draft.open("xb")  # "x": an error if there is anything of that name, be it a link
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def remove_drafts(paths: Iterable[Path]) -> None:
    """Remove those of the files that ``atomic_file`` left unfinished: a process that is killed cannot do so itself."""
    for path in paths:
        if DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def shortened(name: str, longest: int) -> str:
    """Return a name of a file in at most so many bytes: one that is longer ends with a hash of all of it."""
    code = name.encode(errors="surrogateescape")
    if len(code) <= longest:
        return name
    mark = f"~{hashlib.sha256(code).hexdigest()[:8]}"
    return code[: longest - len(mark)].decode(errors="ignore") + mark


def real(path: str | Path) -> Path:
    """Return where a path leads through all links; one that leads nowhere, or to itself, as far as it leads."""
    return Path(os.path.realpath(path))  # Path.resolve raises a RuntimeError for a link to itself


def plain(value: Any) -> Any:
    """Return settings as values that files can hold.

    A dataclass becomes a dict with the name of its class under ``kind``, a mapping becomes a dict, and a tuple becomes
    a list. An object with settings of its own, such as a transform or a loss, becomes a dict like a dataclass, with its
    attributes, of a module also the modules and tensors in it. Anything else that is not plain, for example a function,
    is replaced by its name.
    """
    return _plain(value, ())


def _plain(value: Any, within: tuple[int, ...]) -> Any:
    """Do so for a value; ``within`` are the ids of the objects that it lies in, at which one that holds itself ends."""
    if value is None or isinstance(value, str | Number):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, within) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, within) for v in value]
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw).hexdigest()}"
    if isinstance(value, Enum):
        return str(value)
    settings = {} if id(value) in within else _settings(value)
    if not settings and not is_dataclass(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return {"kind": type(value).__name__} | {name: _plain(v, (*within, id(value))) for name, v in settings.items()}


def _settings(value: Any) -> dict[str, Any]:
    """Return what an object was made with; {} for functions and classes, whose attributes are something else."""
    if isinstance(value, type | FunctionType | MethodType | ModuleType):
        return {}
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    found = vars(value) if hasattr(value, "__dict__") else {}
    if isinstance(value, nn.Module):
        of_every_module = vars(nn.Module())
        inside = {**value._modules, **value._parameters, **value._buffers}
        return {name: v for name, v in found.items() if name not in of_every_module} | inside
    return dict(found)
