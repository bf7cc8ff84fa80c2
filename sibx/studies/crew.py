"""Processes that help this one on the same machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Event, Thread

import torch
from torch.multiprocessing import get_context

from sibx.studies.board import Board

INTERRUPTED = 130  # exit code, as a shell reports Ctrl-C


@contextmanager
def assisted(board: Board, count: int, task: Callable[[int], None]) -> Iterator[None]:
    """Have so many further processes do a task beside the block, which ends when all of them have ended.

    If the block fails, they are ended; if this process is killed, they end themselves.

    Args:
        board: where the job of a process that dies is noted as failed.
        count: how many.
        task: gets the number of its process, counted from 1.
    """
    stopped = Event()
    processes = [get_context("spawn").Process(target=_run, args=(task, n)) for n in range(1, count + 1)]
    watchers = [Thread(target=_watch, args=(p, n, board, stopped)) for n, p in enumerate(processes, 1)]
    try:
        for process, watcher in zip(processes, watchers, strict=True):
            process.start()
            watcher.start()
        yield
    except BaseException:
        stopped.set()
        for process in filter(BaseProcess.is_alive, processes):
            process.terminate()
        raise
    finally:
        for watcher in filter(Thread.is_alive, watchers):
            watcher.join()


def count_places(device: str | None) -> int:
    """Return how many processes can compute side by side: one per GPU, without GPUs one per core."""
    gpus = torch.cuda.device_count()
    if device not in (None, "cpu"):
        return 1
    if gpus and device is None:
        return gpus
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads in the block; None = as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(task: Callable[[int], None], number: int) -> None:
    Thread(target=_leave_with_parent, daemon=True).start()
    try:
        task(number)
    except KeyboardInterrupt:  # the parent says so
        os._exit(INTERRUPTED)


def _leave_with_parent() -> None:
    """End when the parent has: it may have been killed, and its place be taken by a run that goes on."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _watch(process: BaseProcess, number: int, board: Board, stopped: Event) -> None:
    process.join()
    if not stopped.is_set():
        board.give_up(number, f"RuntimeError: the process that did it ended with exit code {process.exitcode}\n")
