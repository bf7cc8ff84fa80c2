"""Which activations a model calls outside modules of a kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

NAMES = frozenset(
    (
        *("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "elu"),
        *("elu_", "celu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "threshold"),
    )
)


@contextmanager
def activations_outside(model: nn.Module, kind: type[nn.Module]) -> Iterator[set[str]]:
    """Within the block, the yielded set collects the activation functions that run outside modules of this kind.

    Args:
        model: the model that runs in the block.
        kind: the kind of modules whose functions do not count.

    The names are those of torch's functions: ``relu`` is ``F.relu``, ``torch.relu``, or the method of a tensor.
    """
    watch, modules = _Watch(), [m for m in model.modules() if isinstance(m, kind)]
    handles = [m.register_forward_pre_hook(lambda *_: watch.move(1)) for m in modules]
    handles += [m.register_forward_hook(lambda *_: watch.move(-1), always_call=True) for m in modules]
    try:
        with watch:
            yield watch.found
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._depth = 0

    def move(self, step: int) -> None:
        """Step into a module of the kind (1), or out of it (-1)."""
        self._depth += step

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note its name if it is an activation."""
        name = getattr(func, "__name__", "")
        if not self._depth and name in NAMES:
            self.found.add(name)
        return func(*args, **kwargs or {})
