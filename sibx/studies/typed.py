"""Whether values fit type hints, for settings that come from a file or from the command line."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sibx._checks import require


def check_types(record: Any) -> None:
    """Require every field of a dataclass to hold what its type hint says.

    Raises:
        ValueError: a field that does not.
    """
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        require(fits(value, hint), name, f"be {getattr(hint, '__name__', hint)}", value)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is what a type hint says: classes, ``|``, Literal, and lists and dicts of those."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return hint is Any or (isinstance(value, hint) and (hint is bool or not isinstance(value, bool)))
