"""What is named as ``module:name``: a model, a method, a metric or a training of the user's own."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def imported(argument: str, path: str) -> Any:
    """Return what ``module:name`` names; the module may lie in the current folder.

    Raises:
        ValueError: there is no such module, or no such name in it.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"`{argument}` must be module:name that can be imported, but got {path!r}: {error}") from error
