"""What was found out about models, kept for later calls."""

from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

V = TypeVar("V")


class Known(Generic[V]):
    """What is known of every model, for as long as the model exists and consists of the same modules.

    What is kept must not hold the model itself, which would then exist forever.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], dict[tuple[Any, ...], V]]] = WeakKeyDictionary()

    def of(self, model: nn.Module) -> dict[tuple[Any, ...], V]:
        """Return what is known of a model, case by case, to read and to add to; empty after a change of its modules.

        Args:
            model: the model.
        """
        modules = tuple(map(id, model.modules()))
        if model not in self._kept or self._kept[model][0] != modules:
            self._kept[model] = modules, {}
        return self._kept[model][1]
