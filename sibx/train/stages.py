"""Trainings of TRAININGS from their first stage to their last."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sibx._checks import look_up, require
from sibx.datasets.base import MaskedDataset, check_dataset
from sibx.models.centering import center
from sibx.models.checkpoint import save_checkpoint
from sibx.objectives import SIBConfig
from sibx.runs.ranks import rank
from sibx.train._centered_head import head_to_center
from sibx.train.callbacks import Callback
from sibx.train.config import TrainConfig
from sibx.train.loop import FineTuneResult, fine_tune, told_by
from sibx.train.trainings import TRAININGS, TrainingSpec

FIRST = "first-stage"  # folder for what is trained before, below that of the training


def fine_tune_as(
    training: str | TrainingSpec,
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
    """Fine-tune a classifier as a line of TRAININGS says: ``fine_tune``, and what the training does before and after.

    Masks are those of the data, or what the objective makes of them. A control whose objective does not shuffle masks
    itself is refused; ``sibx study`` shuffles those of the data for it.

    Args:
        training: key of TRAININGS, with layers ``"auto"``, or a TrainingSpec with its layers filled in.
        model: the model, images -> logits (B, K); it is copied, not changed.
        train_data: images, labels, and masks or groups if the training needs them.
        config: settings of ``fine_tune``; the objective is the training's. None = its defaults.
        val_data: data on which the accuracy is measured after every epoch, and which ``dfr`` fits the last layer to.
        choose_weight: whether S-IB's share is chosen on ``val_data``, see ``fine_tune``.
        out_dir: folder as for ``fine_tune``; a first stage has a folder of its own in it.
        resume: whether to continue from the newest checkpoint in ``out_dir``.
        device: device to train on; None = the model's.
        progress: whether to show a progress bar on stderr, where that is a terminal.
        callbacks: what is called while the last stage with steps trains, see ``sibx.train.Callback``.

    Raises:
        ValueError: an unknown training, data without what the training needs, or what ``fine_tune`` refuses.

    Example:
        >>> data = build_dataset("synthetic", split="train", image_size=64, size=8)
        >>> config, network = TrainConfig(epochs=1, batch_size=4), build_model("tiny_cnn", num_classes=8)
        >>> fine_tune_as("jtt", network, data, config=config, progress=False).history[0]["epoch"]
        1.0
    """
    check_dataset(train_data, "train_data")
    spec = look_up("training", training, TRAININGS).at() if isinstance(training, str) else training
    shuffles = isinstance(spec.objective, SIBConfig) and spec.objective.masks == spec.masks
    rule = "be no control whose objective leaves masks as they are (`sibx study` shuffles those of the data)"
    require(shuffles or not spec.shuffled, "training", rule, spec.name)
    require(spec.finish is None or val_data is not None, "val_data", f"be given for training={spec.name!r}", None)
    config = replace(config or TrainConfig(), objective=spec.objective)
    place: Mapping[str, Any] = {"resume": resume, "device": device, "progress": progress}
    earlier: list[FineTuneResult] = []

    def learn(epochs: int) -> nn.Module:
        unwatched: dict[str, Any] = {"keep": "last", "patience": None, "monitor": "auto", "log_focus": False}
        settings = replace(config, objective=None, epochs=epochs, warm_up=0.0, **unwatched)
        folder = None if out_dir is None else Path(out_dir, FIRST)
        earlier.append(fine_tune(model, train_data, config=settings, out_dir=folder, **place))
        return earlier[-1].model

    data = train_data if spec.prepare is None else spec.prepare(train_data, learn)
    result = fine_tune(
        model,
        data,
        config=config,
        val_data=val_data,
        choose_weight=choose_weight,
        out_dir=out_dir,
        callbacks=callbacks,
        **place,
    )
    result = replace(result, seconds=result.seconds + sum(stage.seconds for stage in earlier))
    if spec.finish is None:
        return result
    assert val_data is not None
    finished = spec.finish(result.model, val_data)
    head = head_to_center(finished) if config.centers else None
    if head is not None:
        center(head)
    if out_dir is not None and rank() == 0:
        save_checkpoint(Path(out_dir, "model.pt"), finished, config=config, **told_by(train_data))
    return replace(result, model=finished)
