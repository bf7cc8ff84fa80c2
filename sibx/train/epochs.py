"""Which epoch is the best, and which epochs trade accuracy for focus."""

import math
from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]
FOCUS = "val_foreground_focus"


def merit(line: Line, monitor: str) -> float:
    """Return how good an epoch is by what is monitored: larger is better; NaN, and what is missing, is never best."""
    value = float(line.get(monitor, math.nan))
    return -math.inf if math.isnan(value) else -value if monitor == "val_loss" else value


def best_epoch(history: Sequence[Line], monitor: str) -> int | None:
    """Return the index of the best epoch: of equal ones that of the lowest validation loss, then the later one.

    Args:
        history: one dict per epoch.
        monitor: key of what is monitored.

    Returns:
        None where what is monitored was never a number.
    """

    def rank(epoch: int) -> tuple[float, float, int]:
        return merit(history[epoch], monitor), merit(history[epoch], "val_loss"), epoch

    best = max(range(len(history)), key=rank, default=None)
    return None if best is None or merit(history[best], monitor) == -math.inf else best


def epochs_since_better(history: Sequence[Line], monitor: str) -> int:
    """Return how many epochs have passed since one was better than all before."""
    merits = [merit(line, monitor) for line in history]
    return len(merits) - 1 - merits.index(max(merits))


def pareto(history: Sequence[Line], against: str = FOCUS, by: str = "val_accuracy") -> list[Line]:
    """Return the epochs that no other is at least as good as in both values and better in one, by rising focus.

    Args:
        history: one dict per epoch, ``FineTuneResult.history``.
        against: key of one value, the larger the better.
        by: key of the other.

    Returns:
        Lines with ``epoch`` and the two values; none of epochs where one is missing or NaN.

    Example:
        >>> values = [(1.0, 0.9, 0.2), (2.0, 0.8, 0.1), (3.0, 0.7, 0.5)]
        >>> history = [{"epoch": e, "val_accuracy": a, "val_foreground_focus": f} for e, a, f in values]
        >>> [line["epoch"] for line in pareto(history)]
        [1.0, 3.0]
    """
    known = [line for line in history if not math.isnan(line.get(against, math.nan) + line.get(by, math.nan))]

    def beaten(line: Line) -> bool:
        pair = (line[against], line[by])
        return any(o[against] >= pair[0] and o[by] >= pair[1] and (o[against], o[by]) != pair for o in known)

    kept = [{key: line[key] for key in ("epoch", by, against)} for line in known if not beaten(line)]
    return sorted(kept, key=lambda line: line[against])
