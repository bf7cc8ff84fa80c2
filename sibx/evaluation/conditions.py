"""What evaluations of a classifier share: they stream a data set and note, per condition, which images are right."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd
import torch
from torch import Tensor

from sibx._checks import check_integer, check_range, require
from sibx._outputs import Output, check_output, hits
from sibx._progress import bar_over
from sibx.datasets.base import MaskedBatch, MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.evaluation.class_match import Matched
from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import CLASSIFIER, CURVE_COLUMNS
from sibx.evaluation.results import Results
from sibx.evaluation.scoring import describe_images, to_rows
from sibx.models import eval_mode
from sibx.runs.place import pick_device, placed

Model = Callable[[Tensor], Tensor]

# (batch on the device, index of its first image in the data set) -> condition: values (B,), NaN where undefined
Score = Callable[[MaskedBatch, int], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and on what a classifier is evaluated: the arguments that all its evaluations take."""

    matched: Matched
    output: Output
    batch_size: int
    workers: int
    device: torch.device | str | None
    seed: int
    labels: Mapping[str, str] | None
    progress: bool

    @property
    def model(self) -> Model:
        """The model, whose outputs are the classes of the data."""
        return self.matched.model

    @property
    def dataset(self) -> MaskedDataset:
        """The samples of these classes."""
        return self.matched.dataset

    def __post_init__(self) -> None:
        check_output(self.output)
        rule = "be 'softmax' or 'sigmoid' where predictions are right or wrong"
        require(self.output != "raw", "output", rule, self.output)
        check_range("batch_size", self.batch_size, 1)
        check_integer("workers", self.workers, 0)
        require(len(self.dataset) > 0, "dataset", "hold at least one image", len(self.dataset))

    def run(self, score: Score, unchanged: str) -> Results:
        """Score every image under every condition; ``unchanged`` names the first one, the images as they are."""
        data, device = self.dataset, pick_device(self.model, self.device)
        columns = {"dataset": data.name, "split": data.split, "model": "", "training": "", **(self.labels or {})}
        start = time.perf_counter()
        parts = []
        with placed(self.model, device), eval_mode(self.model):
            batches = load_batches(data, self.batch_size, self.workers)
            bar = bar_over(batches, f"evaluate {data.split}", shown=self.progress)
            for first, batch in zip(range(0, len(data), self.batch_size), bar, strict=True):
                images = describe_images(self.model, batch.to(device), "label", self.output, self.matched.counts)
                images = images.assign(seed=self.seed, **columns)
                scores = {(CLASSIFIER, unchanged): is_right(images).to_numpy()}
                for name, values in score(batch.to(device), first).items():
                    scores[CLASSIFIER, name] = values.cpu().numpy()
                parts.append(to_rows(images, scores))
        info = {
            "output": self.output,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "device": str(device),
            "seconds": round(time.perf_counter() - start, 1),
            "images": len(data),
            "class_map": self.matched.class_map,
            **columns,
            "versions": {name: version(name) for name in ("sibx", "torch", "captum", "opencv-python", "pillow")},
        }
        return Results(pd.concat(parts, ignore_index=True), pd.DataFrame(columns=list(CURVE_COLUMNS)), info)


def hits_of(model: Model, images: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Run the model without a gradient and say of every image whether it is right, (B,) float64; see ``hits``."""
    with torch.inference_mode():
        return hits(model(images), labels, output)
