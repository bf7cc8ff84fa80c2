"""What becomes of bad input: one list of all kinds of it, for everything that takes images, masks, labels or files.

``python -m tests.helpers.bad_input`` writes the tables again; a test holds every line to what happens.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

TABLES = Path(__file__).parents[2] / "docs" / "results" / "tables"
REFUSED = "refused"
CLEAR = (ValueError, OSError, ImportError, FloatingPointError)
NAMED = re.compile(r"`\w|--\w|cannot be read|\[Errno|not enough memory")


class Case(NamedTuple):
    """One kind of bad input to things of one kind.

    Attributes:
        part: what is called, such as ``methods``.
        argument: what is bad.
        given: what is wrong with it.
        calls: name of what is called -> the call, which says what came of it.
    """

    part: str
    argument: str
    given: str
    calls: Mapping[str, Callable[[], str]]


class Line(NamedTuple):
    """A line of the table: of so many calls of a case this came, and the error said that rule."""

    part: str
    argument: str
    given: str
    outcome: str
    calls: int
    says: str


def run_case(case: Case) -> list[Line]:
    """Make all calls of a case.

    Raises:
        AssertionError: an error that names neither an argument nor a file, or is none that is raised for bad input.
    """
    found = Counter(_call(case, name, call) for name, call in case.calls.items())
    rules: dict[str, list[str]] = {}
    for outcome, says in found:
        rules.setdefault(outcome, []).append(says)
    counts = {outcome: sum(n for (o, _), n in found.items() if o == outcome) for outcome in rules}
    return [Line(*case[:3], outcome, counts[outcome], min(says)) for outcome, says in sorted(rules.items())]


def _call(case: Case, name: str, call: Callable[[], str]) -> tuple[str, str]:
    words = f"{case.part}, {name}: {case.argument} {case.given}"
    try:
        return call(), ""
    except Exception as error:
        if isinstance(error, CLEAR) and NAMED.search(str(error)):
            return REFUSED, _rule(str(error))
        raise AssertionError(f"{words}: {type(error).__name__}, which names nothing: {error}") from error


def _rule(message: str) -> str:
    """Return what an error says without what came, which other versions of other libraries say in other words."""
    for end in (", but got", "cannot be read: "):
        head, found, _ = message.partition(end)
        message = head + (" cannot be read" if found.startswith("cannot") else "") if found else message
    return " ".join(message.split())


def table(lines: Iterable[tuple[object, ...]], head: Iterable[str]) -> str:
    """Return lines as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()


def counts(lines: Iterable[Line]) -> list[tuple[object, ...]]:
    """Return a line per part: kinds of bad input, calls, and how many were refused, NaN, or handled."""
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(line.part, []).append(line)
    everything = [line for of_part in parts.values() for line in of_part]
    return [_count(part, of_part) for part, of_part in (*parts.items(), ("all", everything))]


def _count(part: str, lines: list[Line]) -> tuple[object, ...]:
    kinds = len({line[:3] for line in lines})
    ways = Counter({"refused": 0, "NaN": 0, "handled": 0})
    for line in lines:
        way = line.outcome if line.outcome == REFUSED else "NaN" if line.outcome.startswith("NaN") else "handled"
        ways[way] += line.calls
    return part, kinds, ways.total(), *ways.values()


def tables(lines: list[Line]) -> dict[str, str]:
    """Return the two tables of the page: name of the file -> text."""
    called, says = "what is called", "the error says, of one of them"
    ways = ("refused", "NaN", "handled")
    return {
        "bad_input.csv": table(lines, (called, "argument", "given", "outcome", "calls", says)),
        "bad_input_counts.csv": table(counts(lines), (called, "kinds of bad input", "calls", *ways)),
    }


if __name__ == "__main__":
    from tests.helpers.bad_commands import command_cases
    from tests.helpers.bad_data import data_cases
    from tests.helpers.bad_files import file_cases
    from tests.helpers.bad_tensors import tensor_cases

    cases = (*tensor_cases(), *data_cases(), *file_cases(), *command_cases())
    made = [line for case in cases for line in run_case(case)]
    for name, text in tables(made).items():
        (TABLES / name).write_text(text, encoding="utf-8")
