"""A training run from its first step to its last, across interruptions."""

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sibx._progress import bar_over
from sibx.datasets.base import MaskedDataset
from sibx.runs.ranks import gather_objects, mean_over_ranks, rank, share_buffers, world_size
from sibx.runs.rng import restore_rng, rng_state
from sibx.train.callbacks import Callback, Callbacks
from sibx.train.checkpoints import Checkpoints
from sibx.train.divergence import check_images, check_loss
from sibx.train.epochs import best_epoch, epochs_since_better
from sibx.train.labels import classes_of
from sibx.train.logs import Board, Meter, write_csv
from sibx.train.order import EpochPlan, epoch_plans, load
from sibx.train.step import Learner
from sibx.train.validation import Validation


@dataclass(slots=True)
class Position:
    """Where a run is, and what it has measured so far.

    Attributes:
        epoch: number of completed epochs.
        step: number of steps taken in this epoch.
        elapsed: time spent in this epoch, in seconds.
        norms: norms of the terms' gradients, measured in this epoch.
        history: one dict per epoch, see FineTuneResult.
        seconds: duration of every epoch, in seconds.
        rates: learning rate after every epoch.
        best: weights of the best epoch so far, if they are to be kept.
        stopped: whether a callback has ended the training.
    """

    epoch: int = 0
    step: int = 0
    elapsed: float = 0.0
    norms: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    stopped: bool = False


class Run:
    """Trains a learner to the end, or from where a checkpoint left it.

    Args:
        learner: what is trained.
        data: data to train on.
        validation: what is measured after every epoch, or None.
        folder: folder for the logs; None = no logs.
        checkpoints: where to save checkpoints; None = nowhere.
        progress: whether to show a progress bar.
        callbacks: what is called before the first step and after every epoch.

    Attributes:
        monitor: key in ``history`` of what decides which epoch is the best; None without validation data.
    """

    def __init__(
        self,
        learner: Learner,
        data: MaskedDataset,
        validation: Validation | None,
        folder: Path | None,
        checkpoints: Checkpoints | None,
        progress: bool,
        callbacks: Sequence[Callback] = (),
    ):
        self.learner, self.config = learner, learner.config
        self.data, self.validation, self.checkpoints = data, validation, checkpoints
        self.monitor = None if validation is None else validation.monitor()
        self.callbacks = Callbacks(callbacks, learner.device)
        self.steps = len(data) // self.config.batch_size
        self.position, self.meter = Position(), Meter()
        self.progress = progress and rank() == 0
        self.folder = folder if rank() == 0 else None
        self.board: Board | None = None
        self._strata = self._find_strata()  # here, because random data draws numbers when it is read for its labels

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        state = self.checkpoints.load() if self.checkpoints else None
        if state is not None:
            self.position = Position(**state["position"])
            self.learner.load_state_dict(state["learner"])
            own = state["ranks"][rank()]
            self.meter = Meter(**own["meter"])
            restore_rng(own["rng"], self.learner.device)

    def train(self) -> None:
        """Train to the end."""
        first = self.position.epoch
        if self.folder is not None and self.config.tensorboard:
            self.board = Board(self.folder / "tensorboard", first)
        self.callbacks.start(self.learner.average, first)
        for plan in epoch_plans(self.config, self._strata, first):
            if self._finished():
                break
            self._train_epoch(plan.share(rank(), world_size()))
            self._end_epoch()

    def chosen(self) -> tuple[dict[str, Tensor], int]:
        """Return the weights to keep, and the number of their epoch, counted from 1."""
        best = self._best() if self.config.keep == "best" else None
        if self.position.best is None or best is None:
            if self.config.keep == "best":
                warnings.warn(f"{self.monitor} was NaN after every epoch; the last one is kept", stacklevel=4)
            return dict(self.learner.average.state_dict()), self.position.epoch
        return self.position.best, best + 1

    def _best(self) -> int | None:
        return None if self.monitor is None else best_epoch(self.position.history, self.monitor)

    def _find_strata(self) -> Tensor | int:
        """Return which part of the data an image belongs to, all to be drawn equally often, or the number of images."""
        if self.learner.loss.strata is not None:
            return self.learner.loss.strata
        return classes_of(self.data) if self.config.balanced else len(self.data)

    def _finished(self) -> bool:
        history, patience = self.position.history, self.config.patience
        if patience and history and self.monitor and epochs_since_better(history, self.monitor) >= patience:
            return True
        return self.position.stopped or self.position.epoch == self.config.epochs

    def _train_epoch(self, plan: EpochPlan) -> None:
        position, every = self.position, self.config.checkpoint_every
        title = f"epoch {plan.epoch + 1}/{self.config.epochs}"
        self.learner.set_mode()
        start = time.perf_counter() - position.elapsed
        with bar_over(None, title, shown=self.progress, total=self.steps, initial=position.step) as bar:
            for batches in load(self.data, plan.after(position.step), self.config):
                if position.step == 0 and self.config.log_gradient_norms:
                    position.norms = self.learner.gradient_norms(batches[0])
                check_images(batches)
                terms = self.learner.step(batches, self._steps_taken())
                bar.set_postfix({k: f"{v:.3g}" for k, v in self.meter.add(terms).items()})
                check_loss(self.meter.sums["total"], plan.epoch + 1, position.step + 1)
                bar.update()
                position.step += 1
                position.elapsed = time.perf_counter() - start
                if every and self._steps_taken() % every == 0:
                    self._save()

    def _end_epoch(self) -> None:
        position = self.position
        line = {"epoch": position.epoch + 1.0, **mean_over_ranks(self.meter.means()), **position.norms}
        share_buffers(self.learner.model)
        share_buffers(self.learner.average)
        if self.validation is not None:
            line |= self.validation(self.learner.average)
        position.history.append(line)
        position.seconds.append(position.elapsed)
        position.rates.append(self.learner.optimizer.param_groups[0]["lr"])
        best = self._best() == position.epoch
        if self.config.keep == "best" and best:
            position.best = copy.deepcopy(dict(self.learner.average.state_dict()))
        position.epoch, position.step, position.elapsed, position.norms = position.epoch + 1, 0, 0.0, {}
        self.meter = Meter()
        self._log()
        position.stopped = self.callbacks.epoch(self.learner.average, line, best=best)
        self._save()

    def _steps_taken(self) -> int:
        return self.position.epoch * self.steps + self.position.step

    def _log(self) -> None:
        if self.folder is None:
            return
        lines = zip(self.position.history, self.position.rates, self.position.seconds, strict=True)
        rows = [line | {"learning_rate": rate, "seconds": seconds} for line, rate, seconds in lines]
        if self.config.keep == "best":
            rows = [row | {"kept": float(epoch == self._best())} for epoch, row in enumerate(rows)]
        write_csv(self.folder / "log.csv", rows)
        if self.board is not None:
            self.board.add(rows[-1])

    def _save(self) -> None:
        """Write a checkpoint; every rank has to call this, and the first one writes."""
        if self.checkpoints is None:
            return
        meter = {"sums": self.meter.sums, "count": self.meter.count}
        ranks = gather_objects({"rng": rng_state(self.learner.device), "meter": meter})
        if rank() == 0:
            position = {name: getattr(self.position, name) for name in Position.__dataclass_fields__}
            state: dict[str, Any] = {"position": position, "learner": self.learner.state_dict(), "ranks": ranks}
            self.checkpoints.save(self._steps_taken(), state)
