"""Which weights are trained: those of the layers that patterns name."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from sibx._checks import require
from sibx.models.scored import unwrap


def train_only(model: nn.Module, patterns: Sequence[str] | None) -> None:
    """Freeze every weight of a model that no pattern names; what was frozen before and is named learns again.

    Args:
        model: the model; it is changed.
        patterns: patterns as of file names (``layer4.*``, ``*.bn?``) that name layers, with all that is in them, or
            weights; None = leave the model as it is.

    Raises:
        ValueError: a pattern that names nothing, or no weight left to train.
    """
    inner = unwrap(model)
    for pattern in patterns or ():
        _check_pattern(inner, pattern)
    if patterns is not None:
        for name, parameter in inner.named_parameters():
            found = any(fnmatchcase(n, pattern) for n in _and_owners(name) for pattern in patterns)
            parameter.requires_grad_(found)
    learns = any(p.requires_grad for p in model.parameters())
    require(learns, "model", "have weights that learn (requires_grad)", f"{type(inner).__name__} with all frozen")


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has weights of its own, and none of them learns."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def _and_owners(name: str) -> Iterator[str]:
    """Yield a dotted name and those of the layers around it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _check_pattern(model: nn.Module, pattern: str) -> None:
    names = dict.fromkeys(n for name, _ in model.named_parameters() for n in _and_owners(name))
    if any(fnmatchcase(name, pattern) for name in names):
        return
    near = get_close_matches(pattern.rstrip(".*"), names, n=3) or list(names)[:3]
    shown = ", ".join(map(repr, near))
    raise ValueError(f"`train_layers` must name layers or weights of the model, but got {pattern!r} (near: {shown}).")
