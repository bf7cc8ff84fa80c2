"""Slow twins: formulas again as their papers write them, pixel by pixel, and tied to the fast functions."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]
TWINS: dict[Function, Function] = {}  # fast -> slow


def twin_of(fast: Function) -> Callable[[Function], Function]:
    """Tie the decorated slow form to a function of the package."""

    def tie(slow: Function) -> Function:
        assert fast not in TWINS, f"{fast.__name__} has a twin already"
        assert slow.__name__ == fast.__name__
        TWINS[fast] = slow
        return slow

    return tie


for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")  # which ties its forms
