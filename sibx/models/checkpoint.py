"""Checkpoints: weights, class names and settings in one file, written atomically, read with ``weights_only``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import require
from sibx._files import plain, save_atomically
from sibx.images.normalization import Normalization
from sibx.models._about import About, about
from sibx.models.scored import unwrap

FORMAT = "sibx-checkpoint-1"


NOTES = "finetune.json"  # beside model.pt; what model it is, and how it was made by the command line


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    classes: tuple[str, ...],
    config: Any = None,
    normalization: Normalization | None = None,
    image_size: int | None = None,
) -> None:
    """Write the model's weights with its class names, settings, and what ``load_model`` needs to know.

    The file appears complete or not at all: it is written beside its place and then renamed.

    Args:
        path: file to write; its folder is made if needed.
        model: model whose ``state_dict`` is written: that of the innermost model (see ``unwrap``).
        classes: names of the K classes.
        config: a dataclass of settings that is written too, or None; its ``output`` says what the logits are.
        normalization: the normalization of the images that it was trained on; None = as the model carries it.
        image_size: side of these images in pixels.
    """
    settings, known = {} if config is None else plain(config), about(model)
    known = replace(
        known,
        normalization=normalization or known.normalization,
        image_size=image_size or known.image_size,
        output=settings.get("output", known.output),
    )
    content = {"format": FORMAT, "state": unwrap(model).state_dict(), "classes": list(classes), "config": settings}
    save_atomically(Path(path), content | {"about": known.to_plain()})


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
    good = isinstance(content, dict) and content.get("format") == FORMAT and {"state", "classes"} <= content.keys()
    require(good, "path", f"be a checkpoint of the format {FORMAT}", str(path))
    state, classes = content["state"], content["classes"]
    weights = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    require(weights, "path", "hold weights by name under `state`", str(path))
    names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    require(names, "path", "hold names of classes", str(path))
    return {"config": {}, **content}


def read_notes(folder: Path) -> dict[str, Any]:
    """Return the content of finetune.json, {} if there is no such file.

    Raises:
        ValueError: a file that is none of ours.
    """
    path = folder / NOTES
    try:
        notes = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
        About.read(notes, None, NOTES)  # may have been changed by hand, or come from anywhere
        return notes
    except (ValueError, TypeError) as error:
        rule = f"lie beside a {NOTES} that sibx finetune wrote"
        raise ValueError(f"`path` must {rule}, but got {str(path)!r}: {error}") from error


def read_about(path: str | Path) -> About:
    """Return what a model file, or the finetune.json beside it, says of its model.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint of sibx.
    """
    content = read_checkpoint(path)
    said, notes = content.get("about") or {}, read_notes(Path(path).parent)
    names = ("model", "scores", "normalization", "image_size", "output")
    merged = {name: said.get(name) or notes.get(name) for name in names} if isinstance(said, dict) else {}
    return About.read(merged, tuple(content["classes"]))


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
