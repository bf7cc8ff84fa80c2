"""The fine-tuning routine, in plain torch."""

import copy
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sibx._checks import require
from sibx.datasets.base import InMemoryDataset, MaskedDataset, collate
from sibx.models.checkpoint import save_checkpoint
from sibx.models.layers import eval_mode
from sibx.train.config import TrainConfig
from sibx.train.evidence import layer_weights, self_masks
from sibx.train.guidance import GuidanceConfig, GuidanceLoss
from sibx.train.logs import Board, Meter, write_csv
from sibx.train.objective import SIBLoss
from sibx.train.order import EpochPlan, epoch_plans, labels_of, load
from sibx.train.step import Learner, Objective


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

    Which weights are kept, and whether to stop early, is decided on validation data only; by default the last epoch's
    are kept. With ``masks="self-frozen"`` the model's own masks are computed once, before the first step. Images
    without a mask (an empty one) take part in the cross-entropy only.

    Args:
        model: images -> logits (B, K); it is copied, not changed.
        train_data: images, labels, and masks where the objective needs them.
        config: see TrainConfig; default three epochs of cross-entropy.
        val_data: measured after every epoch.
        out_dir: if given, ``log.csv`` (one line per epoch) and, at the end, ``model.pt`` (see ``load_checkpoint``) are
            written there, and TensorBoard's files into ``tensorboard`` if the settings ask for them.
        device: where to train; None = where the model is.
        progress: whether to show a progress bar with the loss terms on stderr.

    Raises:
        ValueError: fewer images than one batch, settings that need ``val_data`` or ``out_dir`` without it, or whatever
            SIBLoss or GuidanceLoss refuses.
        ImportError: TensorBoard is asked for and not installed.
    """
    config = config or TrainConfig()
    folder = None if out_dir is None else Path(out_dir)
    _check(config, train_data, val_data, folder)
    start = copy.deepcopy(model).to(device if device is not None else next(model.parameters()).device)
    train_data = _with_frozen_masks(start, train_data, config, progress)
    run = _Run(start, train_data, val_data, config, folder, progress)
    run.train()
    start.load_state_dict(run.chosen())
    start.eval()
    if folder is not None:
        save_checkpoint(folder / "model.pt", start, classes=train_data.classes, config=config)
    return FineTuneResult(start, run.state.history, sum(run.state.seconds))


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


def _check(config: TrainConfig, train_data: MaskedDataset, val_data: MaskedDataset | None, folder: Path | None) -> None:
    rule = f"hold one batch of {config.batch_size}"
    require(len(train_data) >= config.batch_size, "train_data", rule, len(train_data))
    chooses = config.keep == "best" or config.patience is not None
    require(val_data is not None or not chooses, "val_data", "be given for keep='best' and for patience", None)
    require(folder is not None or not config.tensorboard, "out_dir", "be given for tensorboard=True", None)


def _objective(model: nn.Module, config: TrainConfig) -> Objective:
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


@dataclass(slots=True)
class _State:
    """Where a run is: ``step`` steps into ``epoch``, both counted from 0."""

    epoch: int = 0
    step: int = 0
    meter: Meter = field(default_factory=Meter)
    elapsed: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    best: dict[str, Tensor] | None = None


class _Run:
    """One training from its first step to its last."""

    def __init__(
        self,
        model: nn.Module,
        data: MaskedDataset,
        val_data: MaskedDataset | None,
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
    ):
        self.data, self.val_data, self.config = data, val_data, config
        self.folder, self.progress = folder, progress
        self.steps = len(data) // config.batch_size
        self.learner = Learner(model, _objective(model, config), config, self.steps * config.epochs)
        self.state = _State()
        self.board = Board(folder / "tensorboard", self.state.epoch) if folder and config.tensorboard else None

    def train(self) -> None:
        labels = labels_of(self.data) if self.config.balanced else len(self.data)
        for plan in epoch_plans(self.config, labels, self.state.epoch):
            if self._finished():
                break
            self._train_epoch(plan)
            self._end_epoch()

    def chosen(self) -> dict[str, Tensor]:
        """The weights to return."""
        return self.learner.average.state_dict() if self.state.best is None else self.state.best

    def _finished(self) -> bool:
        history, patience = self.state.history, self.config.patience
        waited = len(history) - 1 - _best_epoch(history) if patience and history else 0
        return self.state.epoch == self.config.epochs or (patience is not None and waited >= patience)

    def _train_epoch(self, plan: EpochPlan) -> None:
        state, title = self.state, f"epoch {plan.epoch + 1}/{self.config.epochs}"
        self.learner.set_mode()
        start = time.perf_counter() - state.elapsed
        batches = load(self.data, plan.after(state.step), self.config)
        with tqdm(total=self.steps, initial=state.step, desc=title, leave=False, disable=not self.progress) as bar:
            for batch in batches:
                terms = self.learner.step(batch, plan.epoch * self.steps + state.step)
                state.step += 1
                state.elapsed = time.perf_counter() - start
                bar.set_postfix({k: f"{v:.3g}" for k, v in state.meter.add(terms).items()})
                bar.update()

    def _end_epoch(self) -> None:
        state = self.state
        line = {"epoch": state.epoch + 1.0, **state.meter.means()}
        if self.val_data is not None:
            line["val_accuracy"] = accuracy(self.learner.average, self.val_data, batch_size=self.config.batch_size)
        state.history.append(line)
        state.seconds.append(state.elapsed)
        state.rates.append(self.learner.optimizer.param_groups[0]["lr"])
        if self.config.keep == "best" and _best_epoch(state.history) == state.epoch:
            state.best = copy.deepcopy(self.learner.average.state_dict())
        state.epoch, state.step, state.meter, state.elapsed = state.epoch + 1, 0, Meter(), 0.0
        self._log()

    def _log(self) -> None:
        """Write the table anew."""
        if self.folder is None:
            return
        lines = zip(self.state.history, self.state.rates, self.state.seconds, strict=True)
        rows = [line | {"learning_rate": rate, "seconds": seconds} for line, rate, seconds in lines]
        write_csv(self.folder / "log.csv", rows)
        if self.board is not None:
            self.board.add(rows[-1])


def _best_epoch(history: list[dict[str, float]]) -> int:
    """Index of the highest validation accuracy, the earliest of equals."""
    return max(range(len(history)), key=lambda epoch: history[epoch]["val_accuracy"])
