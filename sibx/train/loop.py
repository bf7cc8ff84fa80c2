"""The training loop, in plain torch."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sibx._checks import require
from sibx.datasets.base import InMemoryDataset, MaskedBatch, MaskedDataset, collate
from sibx.datasets.transforms import augment
from sibx.models.checkpoint import save_checkpoint
from sibx.models.layers import eval_mode
from sibx.models.zoo import head_parameters
from sibx.train.config import TrainConfig
from sibx.train.evidence import layer_weights, self_masks
from sibx.train.guidance import GuidanceConfig, GuidanceLoss
from sibx.train.objective import SIBLoss


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """The trained model (eval mode) and how it went.

    Attributes:
        model: a trained copy; the model that was passed in is unchanged.
        history: one dict per epoch: mean of every loss term, training accuracy, and ``val_accuracy`` if there was
            validation data.
        seconds: wall time of training, without validation.
    """

    model: nn.Module
    history: list[dict[str, float]]
    seconds: float


def fine_tune(
    model: nn.Module,
    train_data: MaskedDataset,
    *,
    config: TrainConfig | None = None,
    val_data: MaskedDataset | None = None,
    out_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> FineTuneResult:
    """Fine-tune a classifier with the S-IB loss, a guidance loss, or cross-entropy alone.

    The last epoch's weights are kept; validation data is reported, nothing is chosen by it. With
    ``masks="self-frozen"`` the model's own masks are computed once, before the first step.

    Args:
        model: images -> logits (B, K); it is copied, not changed.
        train_data: images, labels, and masks where the objective needs them.
        config: see TrainConfig; default three epochs of cross-entropy.
        val_data: measured after every epoch.
        out_dir: if given, ``model.pt`` (see ``load_checkpoint``) is written there at the end.
        device: where to train; None = where the model is.
        progress: whether to show a progress bar with the loss terms on stderr.

    Raises:
        ValueError: fewer images than one batch, or whatever SIBLoss or GuidanceLoss refuses.
    """
    config = config or TrainConfig()
    require(
        len(train_data) >= config.batch_size,
        "train_data",
        f"hold one batch of {config.batch_size}",
        len(train_data),
    )
    device = torch.device(device) if device is not None else next(model.parameters()).device
    model = copy.deepcopy(model).to(device)
    train_data = _with_frozen_masks(model, train_data, config, progress)
    generator = torch.Generator().manual_seed(config.seed)
    loader = DataLoader(
        train_data, config.batch_size, shuffle=True, drop_last=True, generator=generator, collate_fn=collate
    )
    optimizer, schedule = _optimizer(model, config, steps=config.epochs * len(loader))
    objective = _objective(model, config)
    history, seconds = [], 0.0
    for epoch in range(config.epochs):
        start = time.perf_counter()
        _set_mode(model, config)
        meter = _Meter()
        with tqdm(loader, desc=f"epoch {epoch + 1}/{config.epochs}", leave=False, disable=not progress) as bar:
            for batch in bar:
                terms = _step(model, objective, _augmented(batch, config, generator).to(device))
                optimizer.step()
                schedule.step()
                meter.add(terms, batch.labels)
                bar.set_postfix(meter.latest)
        seconds += time.perf_counter() - start
        history.append({"epoch": epoch + 1.0, **meter.means()})
        if val_data is not None:
            history[-1]["val_accuracy"] = accuracy(model, val_data, batch_size=config.batch_size)
    model.eval()
    if out_dir is not None:
        save_checkpoint(Path(out_dir) / "model.pt", model, classes=train_data.classes, config=config)
    return FineTuneResult(model, history, seconds)


def predict(model: nn.Module, dataset: MaskedDataset, *, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Return the predicted class and the label of every image, (N,) and (N,), on the CPU; the mode is restored."""
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        pairs = [
            (model(batch.images.to(device)).argmax(1).cpu(), batch.labels)
            for batch in DataLoader(dataset, batch_size, collate_fn=collate)
        ]
    predicted, labels = zip(*pairs, strict=True)
    return torch.cat(predicted), torch.cat(labels)


def accuracy(model: nn.Module, dataset: MaskedDataset, *, batch_size: int = 64) -> float:
    """Return the share of images in [0, 1] whose largest logit is the label's."""
    predicted, labels = predict(model, dataset, batch_size=batch_size)
    return float((predicted == labels).double().mean())


def _objective(model: nn.Module, config: TrainConfig) -> SIBLoss | GuidanceLoss | None:
    if config.objective is None:
        return None
    # Looking up "auto" runs the model once; once is enough.
    if isinstance(config.objective, GuidanceConfig):
        return GuidanceLoss(config.objective.resolved(model))
    return SIBLoss(replace(config.objective, layers=layer_weights(model, config.objective)))


def _with_frozen_masks(model: nn.Module, data: MaskedDataset, config: TrainConfig, progress: bool) -> MaskedDataset:
    if config.objective is None or config.objective.masks != "self-frozen":
        return data
    masks = self_masks(model, data, config=config.objective, batch_size=config.batch_size, progress=progress)
    return InMemoryDataset.load(data).with_masks(masks)


def _optimizer(model: nn.Module, config: TrainConfig, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    head = {id(p) for p in head_parameters(model)}
    head_rate = config.learning_rate if config.head_learning_rate is None else config.head_learning_rate
    peaks = [config.learning_rate, head_rate]
    parts = [[p for p in model.parameters() if (id(p) in head) == is_head] for is_head in (False, True)]
    groups = [{"params": part, "lr": peak} for part, peak in zip(parts, peaks, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps)


def _set_mode(model: nn.Module, config: TrainConfig) -> None:
    model.train()
    if config.batch_norm == "eval":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()


def _augmented(batch: MaskedBatch, config: TrainConfig, generator: torch.Generator) -> MaskedBatch:
    images, (masks,) = augment(batch.images, [batch.masks], config.augmentation, generator)
    return MaskedBatch(images, masks, batch.labels, batch.ids, batch.groups, batch.undefined)


def _step(model: nn.Module, objective: SIBLoss | GuidanceLoss | None, batch: MaskedBatch) -> dict[str, Tensor]:
    """Leave the gradient of one batch in the parameters and return the loss terms and the logits."""
    model.zero_grad(set_to_none=True)
    if objective is None:
        logits = model(batch.images)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        terms = {"total": loss, "cross_entropy": loss, "logits": logits}
    else:
        given = batch.masks if objective.config.masks != "self-online" else None
        terms = objective(model, batch.images, batch.labels, given)._asdict()
    # With respect to the parameters only: a backward to the leaves would also walk to the images.
    parameters = [p for p in model.parameters() if p.requires_grad]
    terms["total"].backward(inputs=parameters)
    return {k: v.detach() for k, v in terms.items() if k == "logits" or v.ndim == 0}


class _Meter:
    """Means of the loss terms and the training accuracy over an epoch."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.latest: dict[str, str] = {}
        self.steps = 0

    def add(self, terms: dict[str, Tensor], labels: Tensor) -> None:
        values = {k: float(v) for k, v in terms.items() if k != "logits"}
        values["accuracy"] = float((terms["logits"].argmax(1).cpu() == labels).double().mean())
        self.steps += 1
        self.latest = {k: f"{v:.3g}" for k, v in values.items()}
        self.sums = {k: self.sums.get(k, 0.0) + v for k, v in values.items()}

    def means(self) -> dict[str, float]:
        return {k: v / self.steps for k, v in self.sums.items()}
