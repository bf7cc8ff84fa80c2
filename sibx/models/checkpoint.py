"""Checkpoints: weights, class names and settings in one file, written atomically, read with ``weights_only``."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sibx._checks import require
from sibx._files import plain, save_atomically
from sibx.models.scored import unwrap

FORMAT = "sibx-checkpoint-1"


def save_checkpoint(path: str | Path, model: nn.Module, *, classes: tuple[str, ...], config: Any = None) -> None:
    """Write the model's weights with its class names and settings.

    The file appears complete or not at all: it is written beside its place and then renamed.

    Args:
        path: file to write; its folder is made if needed.
        model: model whose ``state_dict`` is written: that of the innermost model (see ``unwrap``).
        classes: names of the K classes.
        config: a dataclass of settings that is written too, or None.
    """
    settings = {} if config is None else plain(config)
    content = {"format": FORMAT, "state": unwrap(model).state_dict(), "classes": list(classes), "config": settings}
    save_atomically(Path(path), content)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote: ``state``, ``classes`` and ``config``.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint of sibx.
    """
    require(Path(path).is_file(), "path", "be a checkpoint file", str(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"`path` must be a checkpoint that can be read, but got {str(path)!r}: {error}") from error
    good = isinstance(content, dict) and content.get("format") == FORMAT
    require(good, "path", f"be a checkpoint of the format {FORMAT}", str(path))
    return dict(content)


def load_checkpoint(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load weights written by ``save_checkpoint`` into the model and return the class names and settings.

    Raises:
        ValueError: the file is missing, damaged, not a checkpoint of sibx, or of another architecture; the model is
            then unchanged.
    """
    content = read_checkpoint(path)
    model = unwrap(model)
    own, loaded = model.state_dict(), content["state"]
    fits = own.keys() == loaded.keys() and all(own[k].shape == loaded[k].shape for k in own)
    require(fits, "model", "have the checkpoint's parameters and shapes", type(model).__name__)
    model.load_state_dict(loaded)
    return {"classes": tuple(content["classes"]), "config": content["config"]}
