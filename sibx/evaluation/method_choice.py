"""Methods as ``evaluate`` takes them: keys, specs, and plain functions that return heatmaps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from sibx._checks import check_heatmaps, look_up, require
from sibx.attribution import METHODS, MethodSpec

HeatmapFunction = Callable[[Tensor, Tensor], Tensor]
Methods = Sequence[str | MethodSpec] | Mapping[str, str | MethodSpec | HeatmapFunction]


def resolve_methods(methods: Methods) -> list[MethodSpec]:
    """Return the specs of the methods; a function becomes one.

    Args:
        methods: methods, as keys of METHODS or as specs; or a mapping from names of your own to keys, specs or
            functions ``(images (B, C, H, W), targets (B,)) -> heatmaps (B, 1, H, W)``, at least 0.

    Raises:
        ValueError: an unknown key, something that cannot be called, no method at all, or a name twice.
    """
    if isinstance(methods, Mapping):
        specs = [_named(name, method) for name, method in methods.items()]
    else:
        specs = [_spec("methods", method) for method in methods]
    names = [s.name for s in specs]
    require(len(set(names)) == len(names) > 0, "methods", "name at least one and none twice", names)
    return specs


def _spec(argument: str, method: str | MethodSpec) -> MethodSpec:
    return method if isinstance(method, MethodSpec) else look_up(argument, method, METHODS)


def _named(name: str, method: str | MethodSpec | HeatmapFunction) -> MethodSpec:
    argument = f"methods[{name!r}]"
    if isinstance(method, str | MethodSpec):
        return replace(_spec(argument, method), name=name)
    require(callable(method), argument, "be a key, a MethodSpec, or a function (images, targets) -> heatmaps", method)
    # Signed, so that to_heatmap leaves a map that is at least 0 as it is.
    return MethodSpec(name, name, lambda *_: FromFunction(argument, method), "a function of the caller's", signed=True)


class FromFunction:
    """A function that returns heatmaps, in the form of a method."""

    def __init__(self, argument: str, function: HeatmapFunction):
        self.argument, self.function = argument, function

    def attribute(self, inputs: Any, target: Any = None, **_: Any) -> Tensor:
        """Return the function's heatmaps of the inputs, checked."""
        heatmaps = self.function(inputs, target)
        check_heatmaps(heatmaps, self.argument)
        shape = (len(inputs), 1, *inputs.shape[2:])
        require(tuple(heatmaps.shape) == shape, self.argument, f"return heatmaps of shape {shape}", heatmaps)
        lowest = float(heatmaps.detach().nan_to_num(0).amin())
        require(lowest >= 0, self.argument, "return heatmaps that are at least 0", lowest)
        return heatmaps.detach()
