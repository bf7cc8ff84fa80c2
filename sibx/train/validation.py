"""What is measured on validation data after every epoch."""

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_logits, require
from sibx._outputs import Output, classification_rates
from sibx.attribution import explain
from sibx.datasets.base import MaskedBatch, MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.datasets.part import Part
from sibx.metrics import foreground_focus
from sibx.models.layers import eval_mode
from sibx.runs.ranks import gather_objects, rank, world_size
from sibx.train.config import TrainConfig
from sibx.train.criteria import known_criterion_of

UNEQUAL = 1.5  # from how many times as many images as the rarest class the commonest one decides the accuracy


class Answers(NamedTuple):
    """Scores (N, K), labels (N,) or (N, K), and groups (N,) of a whole data set, on the CPU."""

    scores: Tensor
    labels: Tensor
    groups: Tensor


class Validation:
    """Measures a model on validation data, in all processes together.

    Args:
        data: validation data.
        train_data: training data, whose labels ``balanced`` weights count.
        config: settings of the training.
    """

    def __init__(self, data: MaskedDataset, train_data: MaskedDataset, config: TrainConfig):
        self.data, self.config = data, config
        self.criterion = known_criterion_of(config, train_data)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return what was measured, ``val_<name>``; every rank has to call this, and gets the same."""
        answers = self._answers(model)
        line = {} if self.config.output == "raw" else self._rates(answers)
        if self.criterion is not None:
            with torch.inference_mode():
                line["loss"] = float(self.criterion(answers.scores, answers.labels))
        if self.config.reads_focus:
            line["foreground_focus"] = self._focus(model)
        if callable(self.config.monitor):
            line["monitor"] = float(self.config.monitor(model, self.data))
        return {f"val_{name}": value for name, value in line.items()}

    def monitor(self) -> str:
        """Return the key of what is looked at; ``auto`` is decided by the labels, which are read once.

        It is the accuracy where every image has one label and the commonest class has less than UNEQUAL times as many
        images as the rarest, else the balanced accuracy.
        """
        chosen = self.config.monitor
        if callable(chosen):
            return "val_monitor"
        if chosen != "auto":
            return f"val_{chosen}"
        if self.config.output == "raw":
            return "val_loss"
        if self.data.several_labels:
            return "val_balanced_accuracy"
        counts = torch.tensor([int(self.data.label_of(i)) for i in range(len(self.data))]).bincount()
        unequal = int(counts.max()) >= UNEQUAL * int(counts[counts > 0].min())
        return "val_balanced_accuracy" if unequal else "val_accuracy"

    def _rates(self, answers: Answers) -> dict[str, float]:
        rates = classification_rates(answers.scores, answers.labels, output=self.config.output)
        names = ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "majority_rate")
        line: dict[str, float] = {name: rates[name] for name in names}  # type: ignore[literal-required]
        if bool((answers.groups >= 0).all()):
            line["worst_group"] = _worst_group(answers, self.config.output)
        known = self.config.monitor != "worst_group" or "worst_group" in line
        require(known, "monitor", "be something else for validation data without groups", self.config.monitor)
        return line | {
            f"recall[{name}]": found for name, found in zip(self.data.classes, rates["recall"], strict=False)
        }

    def _answers(self, model: nn.Module) -> Answers:
        device, parts = next(model.parameters()).device, []
        with eval_mode(model), torch.inference_mode():
            for batch in self._batches():
                scores = model(batch.images.to(device)).cpu()
                check_logits(scores, len(batch))
                parts.append(Answers(scores, batch.labels, batch.groups))
        everyone = list(chain(*gather_objects(parts)))
        return Answers(*(torch.cat(column) for column in zip(*everyone, strict=True)))

    def _focus(self, model: nn.Module) -> float:
        """Return the mean foreground focus of Grad-CAM at the last feature map, explaining the labels."""
        device, parts = next(model.parameters()).device, []
        with eval_mode(model):
            for batch in self._batches():
                several = batch.labels.ndim == 2
                owners, targets = (
                    (batch.labels == 1).nonzero(as_tuple=True) if several else (torch.arange(len(batch)), batch.labels)
                )
                if len(owners) and bool(batch.masks.any()):
                    maps = explain(
                        model, batch.images[owners].to(device), "gradcam", targets.to(device), output=self.config.output
                    )
                    parts += foreground_focus(maps.cpu(), batch.masks, undefined=batch.undefined).tolist()
        values = torch.tensor(list(chain(*gather_objects(parts))), dtype=torch.float64)
        return float(values.nanmean())

    def _batches(self) -> Iterable[MaskedBatch]:
        own = range(rank(), len(self.data), world_size())
        return load_batches(Part(self.data, own), self.config.batch_size, self.config.workers) if own else ()


def _worst_group(answers: Answers, output: Output) -> float:
    """Return the accuracy on the group where it is lowest."""

    def on(group: int) -> float:
        rows = answers.groups == group
        return classification_rates(answers.scores[rows], answers.labels[rows], output=output)["accuracy"]

    return min(on(group) for group in answers.groups.unique().tolist())
