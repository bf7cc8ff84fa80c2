"""What happens when a model runs: which module makes which tensor of which, and which activation functions follow."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from sibx.models.differentiable import uncompiled
from sibx.models.layers import eval_mode, main_part
from sibx.models.plain import ACTIVATIONS


class Call(NamedTuple):
    """One run of a module; runs are numbered in the order in which they start."""

    module: nn.Module
    number: int
    parent: int | None  # number of the run that this one is a part of; None = only of the model's own
    inputs: tuple[Tensor, ...]
    output: Any  # the first part, of a tuple


@dataclass(slots=True)
class Trace:
    """The runs of a model's modules, in the order in which they end.

    Attributes:
        calls: the runs.
        output: what the model returned.
        runs: how often every module ran.
        activations: for every activation function that ran: its name, the tensor that it was applied to, and how many
            modules had ended before.
    """

    calls: list[Call] = field(default_factory=list)
    output: Any = None
    runs: Counter[nn.Module] = field(default_factory=Counter)
    activations: list[tuple[str, Tensor, int]] = field(default_factory=list)

    def is_handed_on(self, call: Call) -> bool:
        """Whether another module, one that starts after the run has ended, gets its output as it is."""
        later = (c for c in self.calls[self.calls.index(call) + 1 :] if c.number > call.number)
        return any(tensor is call.output for c in later for tensor in c.inputs)

    def parent_of(self, call: Call) -> Call | None:
        """Return the run that a run is a part of; None = it is a part of the model's own only."""
        return next((c for c in self.calls if c.number == call.parent), None)

    def activation_after(self, call: Call) -> str | None:
        """Return the activation function that the model applies to the output of a run, None for none."""
        ended = self.calls.index(call) + 1
        return next((name for name, x, before in self.activations if x is call.output and before >= ended), None)


def run_traced(model: nn.Module, images: Tensor, *others: Any) -> Trace:
    """Run a model in eval mode, and return what happened; no trace of it is left in the model.

    Args:
        model: the model.
        images: images (B, C, H, W).
        others: further arguments of the model.
    """
    trace, numbers = Trace(), count()
    stack: list[int] = []

    def start(*_: object) -> None:
        stack.append(next(numbers))

    def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        number, parent = stack.pop(), stack[-1] if stack else None
        trace.calls.append(Call(module, number, parent, tuple(tensors_in((args, kwargs))), main_part(output)))
        trace.runs[module] += 1

    handles: list[RemovableHandle] = []
    for module in list(model.modules())[1:]:
        handles.append(module.register_forward_pre_hook(start))
        handles.append(module.register_forward_hook(end, with_kwargs=True))
    try:
        with eval_mode(model), uncompiled(), _SeeActivations(trace):
            trace.output = model(images, *others)
    finally:
        for handle in handles:
            handle.remove()
    return trace


class _SeeActivations(TorchFunctionMode):
    """Notes which activation functions run within the block."""

    def __init__(self, trace: Trace):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function."""
        name = getattr(func, "__name__", "").rstrip("_")
        if name in ACTIVATIONS and args and isinstance(args[0], Tensor):
            self.trace.activations.append((name, args[0], len(self.trace.calls)))
        return func(*args, **kwargs or {})


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors within nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(part)
