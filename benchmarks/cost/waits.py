"""How often, and where, the program waits for the device."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TextIO

import torch
from loads import EXPLAINED, OBJECTIVES, Evaluation, Sizes, Step, Workload
from measured import Case, Row

import sibx
from sibx import METHODS

SHOWN = 5  # places in the table; the file has all
WAIT = "synchronizing CUDA operation"  # what torch's warning of a wait says


def waiting(sizes: Sizes, device: str) -> Iterator[Case]:
    """Waits of training steps, of methods, and of one more batch of ``evaluate``."""
    for name in sizes.available():
        work = cache(partial(Workload, sizes, name, sizes.at_once, device))
        for objective in OBJECTIVES:
            yield Case({"network": name, "call": f"{objective} step"}, partial(_in_step, work, objective))
        for method in EXPLAINED:
            yield Case({"network": name, "call": METHODS[method].title}, partial(_in_method, work, method))
    evaluation = cache(partial(Evaluation, sizes, device))
    labels = {"network": next(iter(sizes.networks)), "call": "evaluate, one more batch"}
    yield Case(labels, partial(_in_evaluation, evaluation))


def _in_step(work: Callable[[], Workload], objective: str) -> list[Row]:
    return [_row(count_waits(Step(work(), objective), work().device), work().device)]


def _in_method(work: Callable[[], Workload], method: str) -> list[Row]:
    return [_row(count_waits(lambda: work().explain(method), work().device), work().device)]


def _in_evaluation(evaluation: Callable[[], Evaluation]) -> list[Row]:
    """Two batches minus one: what an evaluation does once does not count."""
    work = evaluation()
    one, two = (count_waits(partial(work, work.batches(n)), work.device) for n in (1, 2))
    return [_row(two - one, work.device)]


def _row(places: Counter[str], device: str) -> Row:
    if device != "cuda":
        return {"waits": None, "where": None, "all places": None}
    shown = ", ".join(f"{place} x {n}" for place, n in places.most_common(SHOWN))
    return {"waits": places.total(), "where": shown, "all places": dict(places.most_common())}


def count_waits(run: Callable[[], object], device: str) -> Counter[str]:
    """Run once to warm up, then once with torch's warnings of waits on: place in the sources -> number of waits.

    A wait is counted where the innermost function of sibx is at that moment, outside sibx where torch warns. Torch
    knows of waits for a number or an index and of copies between CPU and device, not of all there are.
    """
    run()
    places: Counter[str] = Counter()
    mode: Callable[[str], object] = torch.cuda.set_sync_debug_mode if device == "cuda" else lambda _: None
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if WAIT in str(message):
                places[_place(filename, lineno)] += 1
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        warnings.showwarning = note
        try:
            mode("warn")
            run()
        finally:
            mode("default")
    return places


def _place(filename: str, line: int) -> str:
    package = Path(sibx.__file__).parent
    for frame in reversed(traceback.extract_stack()):
        if package in Path(frame.filename).parents:
            return f"{Path(frame.filename).relative_to(package.parent).as_posix()}:{frame.lineno}"
    return f"{Path(filename).name}:{line}"
