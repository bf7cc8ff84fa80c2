"""The parts of an item of a user's own data set: of a tuple, a dict, a NamedTuple or an object."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sibx._checks import describe, require

# Where a part stands in an item: the place in a tuple, the key of a dict, the name of an attribute; several of these,
# from the outside in; or a function of the item.
Step = int | str
Key = Step | tuple[Step, ...] | Callable[[Any], Any]


class AbsentError(LookupError):
    """A dict does not have the key, as where only some of the images have masks."""


def take(item: Any, key: Key, argument: str) -> Any:
    """Return the part of an item.

    Args:
        item: the item.
        key: where the part stands.
        argument: what the user calls the key, for errors.

    Raises:
        ValueError: an item without such a part; the error says which ones it has.
        AbsentError: a dict without the key, which may be meant.
    """
    if callable(key):
        return key(item)
    for step in key if isinstance(key, tuple) else (key,):
        item = _step(item, step, argument)
    return item


def parts_of(item: Any) -> str:
    """Say which parts an item has, for errors."""
    if isinstance(item, Mapping):
        return f"the keys {list(item)}"
    if hasattr(item, "_fields"):
        return f"the fields {list(item._fields)}"
    if isinstance(item, Sequence) and not isinstance(item, str):
        return f"{len(item)} parts, counted from 0"
    if isinstance(item, Tensor | np.ndarray | Image.Image | str | int | float):
        return "no parts"
    return f"the attributes {sorted(name for name in vars(item) if not name.startswith('_'))}"


def by_files(parts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the image and the masks of an item as paths and numbers; None if the image or another part is neither."""
    found = {name: _by_file(part) for name, part in parts.items()}
    known = all(part is None or isinstance(part, Path | np.ndarray) for part in found.values())
    return found if known and isinstance(found["image"], Path) else None


def _by_file(part: Any) -> Any:
    if isinstance(part, str):
        return Path(part)
    if type(part) is Tensor:  # torchvision's own kinds say more than their numbers
        return part.detach().cpu().numpy()
    if isinstance(part, list | tuple) and part:
        try:
            numbers = np.asarray(part)
        except ValueError:
            return part
        return numbers if numbers.dtype.kind in "buif" else part
    return part


def _step(item: Any, step: Step, argument: str) -> Any:
    if isinstance(item, Mapping):
        if step not in item:
            raise AbsentError(f"`{argument}` must name a part of the items ({parts_of(item)}), but got {step!r}.")
        return item[step]
    whole = isinstance(item, Tensor | np.ndarray | Image.Image | str)
    found = not whole and (hasattr(item, step) if isinstance(step, str) else _has_place(item, step))
    if not found:  # to describe an item takes longer than to read it
        rule = f"name a part of the items, of which one is {describe(item)} with {parts_of(item)}"
        require(False, argument, rule, step)
    return getattr(item, step) if isinstance(step, str) else item[step]


def _has_place(item: Any, place: int) -> bool:
    return hasattr(item, "__getitem__") and hasattr(item, "__len__") and -len(item) <= place < len(item)
