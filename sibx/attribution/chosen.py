"""Methods as every function takes them: a choice, with names that tell them apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sibx._checks import require
from sibx.attribution.method import MethodSpec
from sibx.attribution.methods import METHODS
from sibx.attribution.own_methods import AnyMethod, to_method

ALL = "all"
Methods = str | Sequence[AnyMethod] | Mapping[str, AnyMethod]


def resolve_methods(methods: Methods, model: Any = None) -> list[MethodSpec]:
    """Return the specs of the methods, with different names.

    Args:
        methods: methods in any form that ``to_method`` takes; or a mapping from names of your own to such methods; or
            ``"all"``: all of METHODS. One that comes without a name has its own, with a number where another has it.
        model: the model that will be explained, which instances are compared with; None = any.

    Raises:
        ValueError: what ``to_method`` refuses, no method at all, or a name twice.
    """
    if isinstance(methods, Mapping):
        return _checked([to_method(m, n, argument=f"methods[{n!r}]", model=model) for n, m in methods.items()])
    listed = [methods] if isinstance(methods, str) else list(methods)
    listed = list(METHODS) if asks_all(methods) else listed
    specs = [to_method(m, argument="methods", model=model) for m in listed]
    return _checked(_names_apart(specs))


def asks_all(methods: Methods) -> bool:
    """Whether all methods of the table are asked for: those that do not apply to the model are left out."""
    return methods == ALL or (isinstance(methods, Sequence) and list(methods) == [ALL])


def _checked(specs: list[MethodSpec]) -> list[MethodSpec]:
    names = [s.name for s in specs]
    require(len(set(names)) == len(names) > 0, "methods", "name at least one and none twice", names)
    return specs


def _names_apart(specs: Sequence[MethodSpec]) -> list[MethodSpec]:
    """Give methods of one's own a name that no other method has; those of the table and of specs stay."""
    fixed = [not spec.own or METHODS.get(spec.name) is spec for spec in specs]
    taken = {spec.name for spec, stays in zip(specs, fixed, strict=True) if stays}
    found = []
    for spec, stays in zip(specs, fixed, strict=True):
        name = spec.name if stays else next(n for n in _variants(spec.name) if n not in taken)
        taken.add(name)
        found.append(spec if name == spec.name else replace(spec, name=name, title=name))
    return found


def _variants(name: str) -> Iterator[str]:
    """Names like this one, the most similar first; a key of the table would stand for its method."""
    base = f"{name}-own" if name in METHODS else name
    yield base
    number = 2
    while True:
        yield f"{base}-{number}"
        number += 1
