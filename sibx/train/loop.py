"""The fine-tuning routine, in plain torch."""

import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from sibx._checks import require
from sibx.datasets.base import MaskedDataset, check_dataset, require_masks
from sibx.datasets.other_masks import OtherMasks
from sibx.datasets.packed import PackedMasks
from sibx.models import about
from sibx.models._about import carry
from sibx.models.checkpoint import save_checkpoint
from sibx.objectives import SIBConfig, each_self_masks
from sibx.runs.alone import alone_in
from sibx.runs.normalized import warn_of_normalization
from sibx.runs.place import pick_device
from sibx.runs.ranks import rank, world_size
from sibx.train.callbacks import Callback
from sibx.train.checkpoints import Checkpoints, identify
from sibx.train.choice import SHARES, Choice, at_share, check_choosable, choose_share
from sibx.train.config import TrainConfig
from sibx.train.criteria import criterion_of, known_criterion_of
from sibx.train.epochs import pareto
from sibx.train.losses import build_loss, reads_own_masks
from sibx.train.run import Run
from sibx.train.step import Learner
from sibx.train.trainable import train_only
from sibx.train.validation import Validation


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """The trained model (in eval mode) and the history of its training.

    Attributes:
        model: a trained copy; the model that was passed in is unchanged.
        history: one dict per epoch: mean of every loss term, training accuracy, ``norm_<term>`` of the S-IB loss
            (``log_gradient_norms``), where the objective reads masks ``masked``: the share of the images that had an
            object pixel in theirs (of several labels: of the labels there), and, if there was validation data,
            ``val_accuracy`` and with it the other rates of ``classification_rates``, ``val_loss``, ``val_worst_group``
            of data with groups, and ``val_foreground_focus`` if it is monitored or ``log_focus`` says so.
        seconds: wall time of training in seconds, without validation; of all trainings, if the share was chosen.
        choice: which share was chosen, and by what (``choose_weight``); None = no choice was asked for.
        kept: number of the epoch, counted from 1, whose weights the model has.
        monitor: key in ``history`` of what ``keep`` and ``patience`` looked at; None without validation data.
    """

    model: nn.Module
    history: list[dict[str, float]]
    seconds: float
    choice: Choice | None = None
    kept: int = 0
    monitor: str | None = None

    @property
    def pareto(self) -> list[dict[str, float]]:
        """The epochs that no other beats in accuracy and focus on validation data; [] where no focus was measured."""
        return pareto(self.history)


def fine_tune(
    model: nn.Module,
    train_data: MaskedDataset,
    *,
    config: TrainConfig | None = None,
    val_data: MaskedDataset | None = None,
    choose_weight: bool = False,
    out_dir: str | Path | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> FineTuneResult:
    """Fine-tune a classifier with the S-IB loss, a loss to compare it with, or cross-entropy alone.

    Which weights are kept, and whether to stop early, is decided on validation data only; by default the weights of the
    last epoch are kept. With ``Frozen`` masks every process computes the model's own masks of all images once, before
    the first step, and keeps them at a bit per pixel. Images are read from ``train_data`` whenever they are needed, by
    ``config.workers`` processes: ``sibx.datasets.hold`` keeps small sets in memory. Images with an empty mask take part
    in the cross-entropy only.

    In a ``torch.distributed`` process group (``torchrun``), all ranks call this with the same arguments except
    ``device``. Every rank takes an equal part of every batch, so the steps are those of one process; only BatchNorm in
    train mode sees a rank's images alone (see ``sync_batch_norm``), and the guidance terms are means over a rank's
    images. The first rank writes files and shows progress.

    Args:
        model: the model, images -> logits (B, K); it is copied, not changed.
        train_data: images, labels, and masks if the objective needs them.
        config: settings of the training; None = three epochs of cross-entropy.
        val_data: data on which the model is measured after every epoch; None = no validation.
        choose_weight: whether to choose how hard S-IB may pull, for an objective with ``balance=Share(...)``: the model
            is trained five times from the same start, with shares 0 (cross-entropy alone), .05, .1, .2 and .4, and the
            largest share is returned that is at most .01 worse than share 0 in what ``config.monitor`` names (by
            default the accuracy on ``val_data``, where classes are unequal the balanced accuracy; a loss may be .01
            higher, a function of your own .01 lower). 0 is an answer. It takes five times as long; own masks are read
            once.
        out_dir: folder for ``log.csv`` (one line per epoch), the two newest checkpoints of the run, at the end
            ``model.pt`` (see ``load_checkpoint``), and TensorBoard's files (in ``tensorboard``) if the settings ask for
            them; None = nothing is written. With ``choose_weight`` every share has a folder of its own below it
            (``share-0.4``), and the chosen model is in ``model.pt``.
        resume: whether to continue from the newest checkpoint in ``out_dir``, or from the start if there is no
            checkpoint. On a CPU the result is, bit for bit, that of a run that was never interrupted. A damaged
            checkpoint is passed over with a warning.
        device: device to train on; None = the model's.
        progress: whether to show a progress bar with the loss terms, where stderr is a terminal, and to say there which
            epoch was kept.
        callbacks: what is called before the first step, after every epoch, and at the end, see
            ``sibx.train.Callback``; they leave no trace in the result. With ``choose_weight`` in every training.

    Raises:
        ValueError: fewer images than one batch, settings that need ``val_data`` or ``out_dir`` without it, checkpoints
            of an earlier run without ``resume``, a checkpoint of another model, configuration or data with ``resume``,
            an ``out_dir`` in which another run writes, data without groups for GroupDROConfig, a model of which nothing
            learns, patterns of ``train_layers`` that name nothing, an argument that the loss refuses, or images that
            are not finite.
        FloatingPointError: the loss is not a number any more; the newest checkpoint is from before.
        ImportError: TensorBoard is asked for and not installed.

    Example:
        >>> data = build_dataset("synthetic", split="train", image_size=64, size=8)
        >>> config = TrainConfig(objective=SIBConfig.recommended("given"), epochs=1, batch_size=4)
        >>> result = fine_tune(build_model("tiny_cnn", num_classes=8), data, config=config, progress=False)
        >>> [line["epoch"] for line in result.history]
        [1.0]
    """
    config = config or TrainConfig()
    folder = None if out_dir is None else Path(out_dir)
    _check(config, train_data, val_data, folder)
    require(isinstance(model, nn.Module), "model", "be a torch.nn.Module, whose weights learn", model)
    require(folder is not None or not resume, "out_dir", "be given for resume=True", None)
    warn_of_normalization(model, train_data)
    device = pick_device(model, device)
    rule = "be False on a CPU, where torch cannot synchronize"
    require(not config.sync_batch_norm or device.type != "cpu", "sync_batch_norm", rule, config.sync_batch_norm)
    start = copy.deepcopy(model).to(device)
    task = _Task(start, train_data, val_data, resume=resume, progress=progress, callbacks=callbacks)
    if choose_weight:
        require(val_data is not None, "val_data", "be given for choose_weight=True", None)
        check_choosable(config)
    with alone_in(folder):
        if not choose_weight:
            return task.train(config, folder)
        result = task.train_at_shares(config, folder)
        if folder is not None and rank() == 0:
            save_checkpoint(folder / "model.pt", result.model, config=config, **told_by(train_data))
    return result


def told_by(data: MaskedDataset) -> dict[str, Any]:
    """Return what a model file has to say about the images that a network was trained on."""
    return {"classes": data.classes, "normalization": data.normalization, "image_size": data[0].image.shape[-1]}


@dataclass
class _Task:
    """What is trained: a start on its device, which is copied for every training, and the data."""

    start: nn.Module
    data: MaskedDataset
    val_data: MaskedDataset | None
    resume: bool
    progress: bool
    callbacks: Sequence[Callback] = ()
    _masked: MaskedDataset | None = None

    def train(self, config: TrainConfig, folder: Path | None) -> FineTuneResult:
        """Train once."""
        learning = copy.deepcopy(self.start)
        train_only(learning, config.train_layers)
        if config.sync_batch_norm:
            learning = nn.SyncBatchNorm.convert_sync_batchnorm(learning)
        steps = config.epochs * (len(self.data) // config.batch_size)
        # All ranks have the same weights from here on.
        loss = build_loss(learning, config.objective, self.data, config.output, criterion_of(config, self.data))
        example, criterion = self.data[0].image.unsqueeze(0), known_criterion_of(config, self.data)
        learner = Learner(learning, loss, config, steps, example, criterion)
        checkpoints = None
        if folder is not None:
            checkpoints = Checkpoints(folder, identify(config, learning, self.data, self.val_data))
            rule = "hold no checkpoints of an earlier run (resume=True continues it)"
            require(self.resume or not checkpoints.files(), "out_dir", rule, str(folder))
        validation = None if self.val_data is None else Validation(self.val_data, self.data, config)
        run = Run(
            learner,
            self._with_masks(learning, config),
            validation,
            folder=folder,
            checkpoints=checkpoints,
            progress=self.progress,
            callbacks=self.callbacks,
        )
        if self.resume:
            run.resume()
        run.train()
        trained = copy.deepcopy(self.start).eval()
        weights, kept = run.chosen()
        trained.load_state_dict(weights)
        carry(trained, replace(about(trained), output=config.output, **told_by(self.data)))
        if folder is not None and rank() == 0:
            save_checkpoint(folder / "model.pt", trained, config=config, **told_by(self.data))
        result = FineTuneResult(
            trained, run.position.history, sum(run.position.seconds), kept=kept, monitor=run.monitor
        )
        if self.progress and rank() == 0 and config.keep == "best":
            tqdm.write(describe_kept(result), file=sys.stderr)
        run.callbacks.end(result)
        return result

    def train_at_shares(self, config: TrainConfig, folder: Path | None) -> FineTuneResult:
        """Train once with every share, and return the largest that is harmless."""
        trained = {
            share: self.train(at_share(config, share), folder and folder / f"share-{share:g}") for share in SHARES
        }
        monitor = trained[0.0].monitor
        assert monitor is not None
        choice = choose_share({share: kept_value(result) for share, result in trained.items()}, monitor)
        seconds = sum(result.seconds for result in trained.values())
        return replace(trained[choice.share], seconds=seconds, choice=choice)

    def _with_masks(self, model: nn.Module, config: TrainConfig) -> MaskedDataset:
        """Return the data with the masks that the objective needs; the start's own are read once."""
        objective = config.objective
        if not isinstance(objective, SIBConfig) or not reads_own_masks(objective):
            return self.data
        if self._masked is None:
            progress = self.progress and rank() == 0
            masks = each_self_masks(
                model,
                self.data,
                config=objective,
                output=config.output,
                batch_size=config.batch_size,
                workers=config.workers,
                progress=progress,
            )
            self._masked = OtherMasks(self.data, PackedMasks(masks))
        return self._masked


def describe_kept(result: FineTuneResult) -> str:
    """Return which epoch was kept, by what."""
    chosen = f"kept epoch {result.kept} of {len(result.history)}"
    if result.monitor is None:
        return chosen
    return f"{chosen}: {result.monitor} = {kept_value(result):.4g}"


def kept_value(result: FineTuneResult) -> float:
    """Return what was monitored at the end of the kept epoch; NaN where nothing was."""
    return float(result.history[result.kept - 1].get(result.monitor or "", math.nan))


def _check(config: TrainConfig, train_data: MaskedDataset, val_data: MaskedDataset | None, folder: Path | None) -> None:
    check_dataset(train_data, "train_data")
    if val_data is not None:
        check_dataset(val_data, "val_data")
    rule = f"hold one batch of {config.batch_size}"
    require(len(train_data) >= config.batch_size, "train_data", rule, len(train_data))
    parts = config.accumulate * world_size()
    rule = f"be divisible by accumulate x processes = {parts}"
    require(config.batch_size % parts == 0, "batch_size", rule, config.batch_size)
    rule = "be given for keep='best' and for patience"
    require(val_data is not None or not config.chooses, "val_data", rule, None)
    looks = config.reads_focus or config.monitor != "auto"
    require(val_data is not None or not looks, "val_data", "be given for monitor and for log_focus", None)
    if config.reads_focus and val_data is not None:
        require_masks(val_data, "monitor", ["foreground_focus"])
    require(folder is not None or not config.tensorboard, "out_dir", "be given for tensorboard=True", None)
