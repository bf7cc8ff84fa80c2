"""What of a network no rule of LRP covers: found by running it once."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sibx._captum import run_forward
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap

# Modules whose gradient hands relevance on as it is, or to the one that won.
_POOLS = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
PLAIN = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd, *_POOLS)
# Functions outside modules that only move values, or ask for a shape.
CHANGE = (
    "cat",
    "concat",
    "stack",
    "flatten",
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
    "contiguous",
    "dropout",
)
SHAPES = frozenset((*CHANGE, "size", "dim", "__get__", "numel", "is_floating_point", "_assert", "__bool__"))


def uncovered(model: nn.Module, composite: Any, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> list[str]:
    """Return the places of a network that have no rule, as ``name (what)``: modules, then functions outside them.

    Args:
        model: the model; what a wrapper does with the outputs of the innermost one counts as a part of the score.
        composite: composite of zennit.
        inputs: tensors with B rows, of which the first runs.
        extra: further arguments of the model.
    """
    inner = unwrap(model)
    names = {module: name or type(inner).__name__ for name, module in inner.named_modules()}
    watch = _Watch(inner)
    handles = [m.register_forward_pre_hook(watch.enter) for m in names]
    handles += [m.register_forward_hook(watch.leave, always_call=True) for m in names]
    one = tuple(x[:1].detach() for x in inputs)
    further = tuple(a[:1] if isinstance(a, Tensor) and a.shape[:1] == inputs[0].shape[:1] else a for a in extra)
    try:
        with torch.no_grad(), eval_mode(model), watch:
            run_forward(model, one, None, further or None)
    finally:
        for handle in handles:
            handle.remove()
    found = list(_without_rule(inner, composite, watch.leaves, names))
    found += [f"{names[m]} (runs {count} times)" for m, count in Counter(watch.leaves).items() if count > 1]
    outside: dict[str, dict[str, None]] = {}  # name of a module -> functions in its own forward, in their order
    for module, function in watch.functions:
        if function not in SHAPES:
            outside.setdefault(names[module], {})[function.strip("_")] = None
    found += [f"{name} ({', '.join(functions)})" for name, functions in outside.items()]
    return list(dict.fromkeys(found))


def _without_rule(
    model: nn.Module, composite: Any, leaves: list[nn.Module], names: dict[nn.Module, str]
) -> Iterator[str]:
    """Yield modules that no rule belongs to, and BatchNorm that is not a part of the layer before it."""
    from zennit.core import collect_leaves
    from zennit.types import BatchNorm, Linear

    context: dict[str, Any] = {}  # what composites remember from module to module, in the order of their definition
    ruled = {m for name, m in model.named_modules() if composite.module_map(context, name, m) is not None}
    defined = list(collect_leaves(model))
    # zennit merges by definition: what stands one after the other there has to run one after the other.
    merged = [(a, b) for a, b in pairwise(defined) if _is(a, Linear) and _is(b, BatchNorm)]
    runs = set(pairwise(leaves))
    whole = {b for a, b in merged if (a, b) in runs and b.affine and b.track_running_stats}
    yield from (f"{names[b]} (does not run right after {names[a]})" for a, b in merged if (a, b) not in runs)
    for leaf in leaves:
        lacks = leaf not in whole if _is(leaf, BatchNorm) else leaf not in ruled and not isinstance(leaf, PLAIN)
        if lacks:
            yield f"{names[leaf]} ({type(leaf).__name__})"


def _is(module: nn.Module, kind: Any) -> bool:
    return isinstance(module, kind)


class _Watch(TorchFunctionMode):
    """Notes which modules without parts run, and which functions run outside them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.leaves: list[nn.Module] = []
        self.functions: list[tuple[nn.Module, str]] = []
        self._inside: list[nn.Module] = []

    def enter(self, module: nn.Module, _: Any) -> None:
        """Step into a module."""
        self._inside.append(module)

    def leave(self, module: nn.Module, *_: Any) -> None:
        """Step out of it."""
        self._inside.pop()
        if not list(module.children()):
            self.leaves.append(module)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note its name if it is none of a module's without parts."""
        if self._inside and list(self._inside[-1].children()):
            self.functions.append((self._inside[-1], getattr(func, "__name__", str(func))))
        return func(*args, **kwargs or {})
