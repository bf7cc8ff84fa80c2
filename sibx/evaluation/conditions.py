"""What evaluations of a classifier share: they stream a data set and note, per condition, which images are right."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from sibx._checks import check_integer, require
from sibx._outputs import Output, check_output, hits
from sibx._progress import bar_over
from sibx.datasets.base import MaskedBatch, MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.evaluation.class_match import Matched
from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import CLASSIFIER, CURVE_COLUMNS
from sibx.evaluation.identified import given_labels, identify_model
from sibx.evaluation.label_rates import NOTED, label_rates
from sibx.evaluation.results import Results
from sibx.evaluation.scoring import describe_images, to_rows
from sibx.evaluation.storage import open_storage
from sibx.models import eval_mode
from sibx.runs.identity import identify_data
from sibx.runs.place import pick_device, placed
from sibx.runs.ranks import rank, world_size

Model = Callable[[Tensor], Tensor]
NO_CURVES = pd.DataFrame(columns=list(CURVE_COLUMNS))

Indices = list[list[int]]  # those of the images of every batch
Score = Callable[[MaskedBatch], Mapping[str, Tensor]]  # a batch -> condition: values (B,), NaN where undefined
# Batches that are to be scored -> what scores the next one of them, already on the device.
Scorer = Callable[[Indices], Score]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and on what a classifier is evaluated: the arguments that all its evaluations take."""

    matched: Matched
    batch_size: int
    workers: int
    device: torch.device | str | None
    seed: int
    labels: Mapping[str, str] | None
    out_dir: str | Path | None
    resume: bool
    notes: Mapping[str, Any] | None
    progress: bool

    @property
    def model(self) -> Model:
        """The model, whose outputs are the classes of the data."""
        return self.matched.model

    @property
    def output(self) -> Output:
        """What the logits are."""
        return self.matched.output

    @property
    def dataset(self) -> MaskedDataset:
        """The samples of these classes."""
        return self.matched.dataset

    def __post_init__(self) -> None:
        check_output(self.output)
        rule = "be 'softmax' or 'sigmoid' where predictions are right or wrong"
        require(self.output != "raw", "output", rule, self.output)
        check_integer("batch_size", self.batch_size, 1)
        check_integer("workers", self.workers, 0)
        require(len(self.dataset) > 0, "dataset", "hold at least one image", len(self.dataset))

    def run(self, scorer: Scorer, unchanged: str, settings: dict[str, Any]) -> Results:
        """Score every image under every condition.

        Args:
            scorer: makes what scores batches.
            unchanged: name of the first condition, the images as they are.
            settings: the settings of the conditions, in plain values.
        """
        device, start = pick_device(self.model, self.device), time.perf_counter()
        batches, identify = self._batches(), partial(self._identify, device, unchanged, settings)
        opened = open_storage(self.out_dir, self.resume, len(batches), identify)
        with placed(self.model, device), eval_mode(self.model), opened as storage:
            own = storage.pending()[rank() :: world_size()]
            loader = load_batches(self.dataset, [batches[n] for n in own], self.workers)
            score = scorer([batches[n] for n in own])
            bar = bar_over(loader, f"evaluate {self.dataset.split}", shown=self.progress and rank() == 0)
            for number, batch in zip(own, bar, strict=True):
                storage.add(number, self._rows(batch.to(device), score, unchanged), NO_CURVES)
            about = {**self._columns, "seed": self.seed}
            of_labels = label_rates(
                self.matched, about, batch_size=self.batch_size, workers=self.workers, device=device
            )
            seconds = round(time.perf_counter() - start, 1)
            noted = {NOTED: of_labels} if of_labels else {}
            info = self._describe(device) | {"seconds": seconds} | noted | settings | dict(self.notes or {})
            return storage.finish(info)

    def _rows(self, batch: MaskedBatch, score: Score, unchanged: str) -> pd.DataFrame:
        images = describe_images(self.model, batch, "label", self.output, self.matched.counts)
        images = images.assign(seed=self.seed, **self._columns)
        scores = {(CLASSIFIER, unchanged): is_right(images).to_numpy()}
        scores |= {(CLASSIFIER, name): values.cpu().numpy() for name, values in score(batch).items()}
        return to_rows(images, scores)

    def _batches(self) -> Indices:
        total, size = len(self.dataset), self.batch_size
        return [list(range(first, min(first + size, total))) for first in range(0, total, size)]

    @property
    def _columns(self) -> dict[str, str]:
        own = {"dataset": self.dataset.name, "split": self.dataset.split, "model": "", "training": ""}
        return own | dict(self.labels or {})

    def _describe(self, device: torch.device) -> dict[str, Any]:
        return {
            "output": self.output,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "device": str(device),
            "images": len(self.dataset),
            "class_map": self.matched.class_map,
            "normalization": {k: list(v) for k, v in asdict(self.dataset.normalization).items()},  # as JSON has it
            **self._columns,
            "versions": {name: version(name) for name in ("sibx", "torch", "captum", "opencv-python", "pillow")},
        }

    def _identify(self, device: torch.device, unchanged: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Say which evaluation this is, in plain values by argument: whatever the scores depend on."""
        described = self._describe(device)
        return {
            **{name: described[name] for name in ("output", "batch_size", "seed", "class_map", "versions")},
            "dataset": identify_data(self.dataset, device, self.workers),
            "labels": given_labels(self._columns, self.dataset),
            "model": identify_model(self.model),
            "device": device.type,
            "unchanged": unchanged,
            **settings,
        }


def hits_of(model: Model, images: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Run the model without a gradient and say of every image whether it is right, (B,) float64; see ``hits``."""
    with torch.inference_mode():
        return hits(model(images), labels, output)
