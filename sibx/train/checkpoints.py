"""Checkpoints of a training run: atomic, verified when read, refused when they belong to another run.

Files hold tensors and plain values only and are read with ``weights_only=True``.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sibx._files import plain, save_atomically
from sibx.datasets.base import MaskedDataset
from sibx.models.scored import readings
from sibx.runs.identity import check_identity, digest, identify_data
from sibx.runs.ranks import world_size
from sibx.train.config import TrainConfig
from sibx.train.losses import reads_own_masks

FORMAT = "sibx-training-3"
KEPT = 2  # number of checkpoints: the newest, and the one before it in case the newest is damaged
WITHOUT_EFFECT = ("workers", "checkpoint_every", "tensorboard")  # fields that may change when a run is resumed


class Checkpoints:
    """The checkpoints of one run in a folder, ``checkpoint-<steps taken>.pt``, the newest two.

    Args:
        folder: folder of the checkpoints.
        identity: settings, model and data of the run as a nested mapping, see ``identify``.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self.folder, self.identity = folder, dict(identity)
        self._kept: list[Path] = []

    def files(self) -> list[Path]:
        """Return the checkpoint files that exist, oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def save(self, steps: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; delete the oldest if there are more than two."""
        path = self.folder / f"checkpoint-{steps:09d}.pt"
        content = {"format": FORMAT, "identity": self.identity, "state": dict(state)}
        save_atomically(path, content | {"sha256": digest(content)})
        self._kept = [p for p in self._kept if p != path] + [path]
        while len(self._kept) > KEPT:
            self._kept.pop(0).unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest readable state, None if there is no file; warn about every file that cannot be read.

        Raises:
            ValueError: no file can be read, or the checkpoint belongs to another run; the error says what differs.
        """
        files = self.files()
        for last in range(len(files), 0, -1):
            content = _read(files[last - 1])
            if content is not None:
                check_identity(self.identity, content["identity"], f"the checkpoint {str(files[last - 1])!r}")
                self._kept = files[:last]
                state: dict[str, Any] = content["state"]
                return state
        if files:
            raise ValueError(f"`out_dir` must hold a checkpoint that can be read, but got {[str(p) for p in files]}.")
        return None


def identify(
    config: TrainConfig, model: nn.Module, train_data: MaskedDataset, val_data: MaskedDataset | None
) -> dict[str, Any]:
    """Return what identifies a run, in plain values: settings, model, data and number of processes.

    The starting weights are part of it only if the objective computes masks from them.

    Args:
        config: settings of the run.
        model: the starting model.
        train_data: data to train on.
        val_data: data to validate on, or None.
    """
    settings = {k: v for k, v in plain(config).items() if k not in WITHOUT_EFFECT}
    own_masks = reads_own_masks(config.objective)
    shapes = {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()}
    device = next(model.parameters()).device
    return {
        "config": settings,
        "model": shapes | readings(model) | ({"starting weights": digest(model.state_dict())} if own_masks else {}),
        "train_data": identify_data(train_data, device, config.workers),
        "val_data": None if val_data is None else identify_data(val_data, device, config.workers),
        "processes": world_size(),
    }


class _OldFormatError(ValueError):
    """An undamaged checkpoint of an earlier version."""


def _check_format(path: Path, content: Any) -> None:
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, str) and found.startswith("sibx-training-") and found != FORMAT:
        raise _OldFormatError(
            f"`out_dir` must hold checkpoints of the format {FORMAT}, but got {str(path)!r} of the format {found}: a "
            "run of that version cannot be continued; train anew in another folder."
        )


def _read(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's content; warn and return None if it is damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_format(path, content)
        good = content.pop("format") == FORMAT and content.pop("sha256") == digest({"format": FORMAT, **content})
        problem = "" if good else f"it is not of the format {FORMAT}, or its checksum is wrong"
    except _OldFormatError:
        raise
    except Exception as error:  # a damaged or foreign file may make torch.load raise any error
        problem = f"{type(error).__name__}: {error}"
    if problem:
        warnings.warn(f"the checkpoint {str(path)!r} cannot be read and is passed over ({problem})", stacklevel=5)
        return None
    return dict(content)
