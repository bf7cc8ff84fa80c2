"""Checkpoints of a training run: atomic, verified when read, refused when they belong to another run.

Files hold tensors and plain values only and are read with ``weights_only=True``.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sibx.datasets.base import MaskedDataset, spread
from sibx.models.checkpoint import save_atomically
from sibx.train.distributed import world_size
from sibx.train.rng import restore_rng, rng_state, seed_rng
from sibx.train.train_config import TrainConfig

FORMAT = "sibx-training-1"
KEPT = 2  # the newest, and the one before it should the newest turn out to be torn
SAMPLES = 16  # of a data set, spread evenly, by which it is recognized
WITHOUT_EFFECT = ("workers", "checkpoint_every", "tensorboard")  # fields that may change when a run is resumed


class Checkpoints:
    """The checkpoints of one run in a folder, ``checkpoint-<steps taken>.pt``, the newest two.

    Args:
        folder: where they are.
        identity: nested mapping of what makes the run this run; see ``identify``.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self.folder, self.identity = folder, dict(identity)
        self._kept: list[Path] = []

    def files(self) -> list[Path]:
        """Return the files there are, oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def save(self, steps: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; delete the oldest when there are more than two, and drafts of a process that died."""
        path = self.folder / f"checkpoint-{steps:09d}.pt"
        content = {"format": FORMAT, "identity": self.identity, "state": dict(state)}
        save_atomically(path, content | {"sha256": digest(content)})
        self._kept = [p for p in self._kept if p != path] + [path]
        while len(self._kept) > KEPT:
            self._kept.pop(0).unlink(missing_ok=True)
        for pattern in ("checkpoint-*.pt", "log.csv", "model.pt"):
            for draft in self.folder.glob(f"{pattern}.*.tmp"):
                draft.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest readable state, None where there is no file; warn of every file passed over.

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


def check_identity(here: Mapping[str, Any], there: Mapping[str, Any], source: str) -> None:
    """Raise ValueError unless what is on disk was made by the same run; the error names the first thing that differs.

    Args:
        here: nested mapping of plain values by argument: what makes this run this run.
        there: the same of the run that wrote the files.
        source: what they are, for the error.
    """
    ours, theirs = dict(_flat(here)), dict(_flat(there))
    for key in {**theirs, **ours}:
        was, comes = (repr(side[key]) if key in side else "absent" for side in (theirs, ours))
        if was != comes:
            argument, _, detail = key.partition(".")
            name = detail or argument
            raise ValueError(f"`{argument}` must be that of {source}, with {name} = {was}, but got {name} = {comes}.")


def identify(
    config: TrainConfig, model: nn.Module, train_data: MaskedDataset, val_data: MaskedDataset | None
) -> dict[str, Any]:
    """Say which run this is, in plain values.

    The starting weights count only where the objective computes masks from them.
    """
    settings = {k: v for k, v in _plain(asdict(config)).items() if k not in WITHOUT_EFFECT}
    own_masks = config.objective is not None and config.objective.masks == "self-frozen"
    shapes = {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()}
    device = next(model.parameters()).device
    return {
        "config": settings,
        "model": shapes | ({"starting weights": digest(model.state_dict())} if own_masks else {}),
        "train_data": identify_data(train_data, device),
        "val_data": None if val_data is None else identify_data(val_data, device),
        "processes": world_size(),
    }


def digest(value: Any) -> str:
    """Return the SHA-256 of tensors and plain values, nested in mappings and sequences."""
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{key!r}:".encode()
            yield from _pieces(item)
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}:".encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield f"{value!r};".encode()


def identify_data(data: MaskedDataset, device: torch.device) -> dict[str, Any]:
    """Say which data set this is, in plain values; the random generators, the device's too, are left as they were."""
    before = rng_state(device)
    seed_rng(0)  # for samples that are random in themselves
    samples = [tuple(data[i]) for i in spread(len(data), SAMPLES)]
    restore_rng(before, device)
    named = {"name": data.name, "split": data.split, "images": len(data), "classes": list(data.classes)}
    return named | {"samples": digest(samples)}


def _read(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's content, or warn and return None."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        good = content.pop("format") == FORMAT and content.pop("sha256") == digest({"format": FORMAT, **content})
        problem = "" if good else f"it is not of the format {FORMAT}, or its checksum is wrong"
    except Exception as error:  # whatever a damaged or foreign file makes of torch.load
        problem = f"{type(error).__name__}: {error}"
    if problem:
        warnings.warn(f"the checkpoint {str(path)!r} cannot be read and is passed over ({problem})", stacklevel=5)
        return None
    return dict(content)


def _plain(value: Any) -> Any:
    """Turn mappings into dicts and tuples into lists."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf under its dotted name."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
