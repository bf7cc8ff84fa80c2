"""Tables whose rows are measured one by one: what fails says why and the rest goes on, and nothing measured is lost."""

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from loads import Sizes

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A part of a table: what all its rows say, and what measures the rest of them."""

    labels: Row
    measure: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Section:
    """A table: title, columns (the last one, for remarks, is added), and its cases for given sizes and a device.

    ``cases`` computes nothing itself, so that whatever fails fails in a case.
    """

    title: str
    columns: tuple[str, ...]
    cases: Callable[[Sizes, str], Iterator[Case]]


class Report:
    """Prints rows as they come, and keeps all of them in a file.

    Attributes:
        failed: whether any row has an error.
    """

    def __init__(self, out: Path, about: Row, deadline: float):
        self.out, self.deadline, self.failed = out, deadline, False
        self.content: Row = {**about, "sections": {}}
        out.parent.mkdir(parents=True, exist_ok=True)

    def fill(self, section: Section, sizes: Sizes, device: str) -> None:
        """Measure one section."""
        start, kept = time.monotonic(), list[Row]()
        entry = self.content["sections"][section.title] = {"seconds": 0.0, "rows": kept}
        headings = (*section.columns, "note")
        print(f"\n{section.title}\n\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
        for case in section.cases(sizes, device):
            for row in self._measure(case, device):
                kept.append(row)
                print(f"| {' | '.join(shown(row.get(h)) for h in headings)} |", flush=True)
            entry["seconds"] = round(time.monotonic() - start, 1)
            self._save()
        print(f"\n{entry['seconds']:.0f} seconds", flush=True)

    def _measure(self, case: Case, device: str) -> list[Row]:
        if time.monotonic() > self.deadline:
            return [case.labels | {"note": "skipped, the time is up"}]
        try:
            return [case.labels | row for row in case.measure()]
        except Exception as error:  # whatever it is, the other rows go on
            self.failed = True
            traceback.print_exc()
            return [case.labels | {"note": f"FAILED: {type(error).__name__}: {error}"}]
        finally:
            release(device)

    def _save(self) -> None:
        """Write the file; it is complete at any time."""
        new = self.out.with_suffix(".tmp")
        new.write_text(json.dumps(self.content, indent=1), encoding="utf-8")
        new.replace(self.out)


def shown(value: object) -> str:
    """The text of one cell."""
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value).replace("\n", " ").replace("|", "/")


def release(device: str) -> None:
    """Free the memory of the GPU that nobody holds any more."""
    if device == "cuda":
        gc.collect()
        with suppress(RuntimeError):  # after some errors the device does nothing any more, and says it again
            torch.cuda.empty_cache()
