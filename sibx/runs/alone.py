"""One run per folder: two that write into the same one would mix their files."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sibx._checks import require
from sibx._files import remove_drafts
from sibx.runs.ranks import on_first_rank, rank

if sys.platform != "win32":
    import fcntl

PATIENCE = 3.0  # seconds: helpers of a run that was killed may take a moment to notice it
POLL = 0.05  # seconds between two tries

_held: dict[int, bool] = {}  # descriptors of the folders that this process has locked: whether it has made them


@contextmanager
def alone_in(folder: Path | None, argument: str = "out_dir") -> Iterator[None]:
    """Within the block no other run writes into a folder; all ranks call it together, and the first one locks.

    The operating system keeps the lock, on the folder itself: it ends with the process however that ends, and leaves no
    file. File systems that lock no folders (some network drives) and Windows have none. The folder is made if needed,
    and then removed if nothing came into it. Unfinished files of runs that were killed there are removed.

    Args:
        folder: which; None = no lock.
        argument: who asked for it, for the error.

    Raises:
        ValueError: another run is in the folder; on every rank.
    """
    lock = None if folder is None else on_first_rank(lambda: _enter(folder, argument))
    try:
        yield
    finally:
        if folder is not None and lock is not None and rank() == 0:  # the number says nothing to other ranks
            _release(lock, folder)


@contextmanager
def handed_on(folder: Path, argument: str) -> Iterator[tuple[int, ...]]:
    """Lock a folder for a process that is started within the block, and holds the lock until it ends.

    Yields the descriptors that it has to inherit (``pass_fds``); none where the system has no locks.

    Args:
        folder: which; made if needed.
        argument: who asked for it, for the error.

    Raises:
        ValueError: another run is in the folder.
    """
    descriptor = _lock(folder, argument)
    try:
        yield () if descriptor is None else (descriptor,)
    finally:
        if descriptor is not None:
            _held.pop(descriptor)
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a run is in a folder at the moment; never where the system has no locks."""
    if sys.platform == "win32" or not folder.is_dir():
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # several may ask at once
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    else:
        return False
    finally:
        os.close(descriptor)


def _enter(folder: Path, argument: str) -> int | None:
    lock = _lock(folder, argument)
    remove_drafts(folder.glob("*.tmp"))
    return lock


def _lock(folder: Path, argument: str) -> int | None:
    """Return a descriptor that holds the lock, None where there is none to be had."""
    deadline = time.monotonic() + PATIENCE
    while sys.platform != "win32":
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            rule = "be the folder of one run at a time"
            require(time.monotonic() < deadline, argument, rule, f"{folder}, where another run writes at the moment")
            time.sleep(POLL)
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        else:
            if _is_at(descriptor, folder):
                _held[descriptor] = made
                return descriptor
            os.close(descriptor)  # its last owner has removed it meanwhile
    return None


def _release(descriptor: int, folder: Path) -> None:
    if descriptor in _held:  # not in a process that was forked within the block
        if _held.pop(descriptor):
            with suppress(OSError):  # there are files in it
                folder.rmdir()
        os.close(descriptor)


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is still the one of that name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False


def _let_go() -> None:
    """In a forked process: the lock is its parent's, who may die before it."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
