"""Faults of a process and its files: death before any file operation, an operation that fails, death at any moment."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Names of Python's audit events (a replace is a rename) -> which of its arguments is the folder that the name is in.
CHANGES = {"os.mkdir": 2, "os.rename": 2, "os.remove": 1, "os.rmdir": 1}
NOWHERE = -1  # the name is a path of its own
IN_VAIN = {"os.mkdir": True, "os.remove": False}  # where it is there already, and where it is not

Fault = Callable[[], None]


def die():
    """As a power cut or the kernel's killer does it: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    """As on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def where(name, folder):
    """The path of a name in an open folder, as ``shutil.rmtree`` goes through them; of no name, of what is open."""
    return Path(name) if folder == NOWHERE else Path(f"/proc/self/fd/{folder}").readlink() / name


class Operations:
    """Counts what a process does to the files of a folder; before the ``nth`` operation the fault happens."""

    def __init__(self, folder, nth, fault: Fault):
        self.folder, self.nth, self.fault = f"{folder}{os.sep}", nth, fault
        self.seen = []

    def hear(self, event, arguments):
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITES)
        if changes and isinstance(arguments[0], str | os.PathLike):
            path = where(arguments[0], arguments[CHANGES[event]] if event in CHANGES else NOWHERE)
            if f"{path}/".startswith(self.folder) and path.exists() != IN_VAIN.get(event):
                self.count(f"{event} {path}")

    def count(self, what):
        self.seen.append(what)
        if len(self.seen) == self.nth:
            self.fault()


_heard: list[Operations] = []  # an audit hook stays for the life of its process
sys.addaudithook(lambda event, arguments: _heard[-1].hear(event, arguments) if _heard else None)


@contextmanager
def faulty(folder, nth=0, fault=fail):
    """Within the block the fault happens before the nth operation on files in a folder; 0 = never, they are counted.

    Operations are: to open for writing, to flush to disk, to rename, to remove, to make and remove folders.
    """
    operations, flush = Operations(folder, nth, fault), os.fsync

    def fsync(descriptor):
        operations.count(f"fsync {where('', descriptor)}")
        flush(descriptor)

    os.fsync = fsync
    _heard.append(operations)
    try:
        yield operations
    finally:
        _heard.pop()
        os.fsync = flush


def in_a_child(work):
    """Start work in a forked process; return its id. It ends with 0, or with 1 and the error on stderr."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child


def died(child, within=300.0):
    """Wait for a child; return the number of the signal that ended it, or minus its exit code."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"the process still ran after {within} s")
