"""Settings with single fields replaced, named by words as the command line and the files of studies have them."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from sibx._checks import check_choice
from sibx.objectives import CKA, HSIC, Contrast, Fraction, Frozen, Given, GradNorm, Online, Share, Shuffled, Variance

PARTS = {
    kind.__name__.lower(): kind
    for kind in (Given, Frozen, Online, HSIC, CKA, Variance, Fraction, Contrast, GradNorm, Share)
}
OF_PARTS = ("masks", "foreground", "background", "balance")  # fields of SIBConfig that hold a part


def names_of(settings: object) -> tuple[str, ...]:
    """Return the fields that can be replaced; () for what is no settings."""
    known = fields(settings) if is_dataclass(settings) and not isinstance(settings, type) else ()
    return tuple(f.name for f in known if f.name not in ("method", "rule"))


def changed(settings: Any, path: Sequence[str], value: Any, argument: str) -> Any:
    """Return settings with one field replaced.

    Args:
        settings: a dataclass of settings.
        path: names from the settings down to the field, of parts within parts.
        value: its new value; for a field that holds a part the name of one (``cka``, ``none``, ``shuffled-given``).
        argument: what the caller calls the changes, for errors.

    Raises:
        ValueError: an unknown field or part, or a value that the field refuses.
    """
    name, *rest = path
    check_choice(argument, name, names_of(settings))
    if rest:
        value = changed(getattr(settings, name), rest, value, argument)
    elif name in OF_PARTS:
        value = _part(name, value)
    try:
        return replace(settings, **{name: value})
    except (TypeError, AttributeError) as error:  # for example a word instead of a number
        shown = f"{'.'.join(path)}={value}"
        raise ValueError(f"`{argument}` must have values of the fields' types, but got {shown!r}.") from error


def _part(name: str, word: Any) -> Any:
    """Return the part that a word names: ``cka``, ``none``, ``shuffled-given``."""
    shuffled, _, kind = str(word).rpartition("-")
    check_choice(name, kind, (*PARTS, "none"))
    part: Any = None if kind == "none" else PARTS[kind]()
    return Shuffled(part) if shuffled == "shuffled" else part
