"""Objectives of all kinds, in the one form in which the training loop calls them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from sibx._checks import check_logits, require
from sibx._outputs import Criterion, Output, criterion_for
from sibx.datasets.base import MaskedBatch, MaskedDataset, require_masks
from sibx.objectives import GroupDROConfig, GroupDROLoss, GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss
from sibx.train.labels import groups_of

_MASKS, _GROUPS = attrgetter("masks"), attrgetter("groups")
# Settings of a loss of sibx; None = cross-entropy; or a function (model, images, labels, masks) -> the scalar to
# minimize, or terms with a ``total`` and, for the training accuracy, ``logits``. It may ask for ``undefined``, too.
Objective = SIBConfig | GuidanceConfig | GroupDROConfig | Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss for the loop.

    Attributes:
        compute: function ``(model, images, labels, what is read)`` -> the scalar to minimize, or terms.
        reads: what of a batch the loss is handed beside images and labels: its masks, its groups, or nothing.
        module: the loss as a module, if it has a state for checkpoints, else None.
        takes: what ``compute`` is handed by name: ``ramp``, for a warm-up, and ``undefined``, beside masks.
        strata: index (N,) of the part of the training data that an image belongs to, all parts to be drawn equally
            often; None = as the settings say.
    """

    compute: Callable[..., Any]
    reads: Callable[[MaskedBatch], Tensor | None] = _MASKS
    module: SIBLoss | GuidanceLoss | GroupDROLoss | None = None
    takes: Sequence[str] = ()
    strata: Tensor | None = None

    def __call__(self, model: nn.Module, batch: MaskedBatch, ramp: float) -> dict[str, Tensor]:
        """Return the terms of a batch by name, ``total`` among them."""
        options = {"ramp": ramp, "undefined": self.undefined(batch)}
        taken = {name: options[name] for name in self.takes}
        terms = self.compute(model, batch.images, batch.labels, self.reads(batch), **taken)
        if isinstance(terms, Tensor):
            return {"total": terms}
        named = dict(terms) if isinstance(terms, Mapping) else dict(terms._asdict())
        require("total" in named, "objective", "return a scalar, or terms with a `total`", sorted(named))
        return named

    def reads_masks(self, batch: MaskedBatch) -> bool:
        """Whether masks are what the loss is handed of a batch."""
        return self.reads(batch) is batch.masks

    def undefined(self, batch: MaskedBatch) -> Tensor | None:
        """Return the undefined pixels of the masks that the loss is handed, None without masks."""
        return batch.undefined if self.reads_masks(batch) else None


def build_loss(
    model: nn.Module,
    objective: Objective,
    data: MaskedDataset,
    output: Output = "auto",
    criterion: Criterion | None = None,
) -> Loss:
    """Return the loss of an objective, on the device of the model.

    Args:
        model: the model that will be trained.
        objective: what is minimized, see ``TrainConfig``.
        data: the data to train on.
        output: what the logits are.
        criterion: function ``(logits, labels) -> scalar``; None = the usual one of the output.

    Raises:
        ValueError: an objective that needs masks for data of which it is known that no image has one.
    """
    if objective is None:
        return Loss(_Plain(criterion or criterion_for(output)), reads=_nothing)
    if isinstance(objective, GroupDROConfig):
        groups = groups_of(data, "train_data")
        by_group = GroupDROLoss(objective, groups.bincount(), output=output, criterion=criterion)
        by_group.to(next(model.parameters()).device)
        return Loss(by_group, _GROUPS, by_group, strata=groups)
    if isinstance(objective, SIBConfig):
        loss: SIBLoss | GuidanceLoss = SIBLoss(objective, output=output, criterion=criterion)
    elif isinstance(objective, GuidanceConfig):
        loss = GuidanceLoss(objective, output=output, criterion=criterion)
    else:
        return Loss(objective, takes=_asked(objective))
    if objective.needs_masks and not reads_own_masks(objective):
        require_masks(data, "objective", [type(objective).__name__])
    loss.to(next(model.parameters()).device)
    reads = _MASKS if objective.needs_masks else _nothing
    return Loss(loss, reads, loss, takes=("ramp", "undefined"))


def reads_own_masks(objective: Objective) -> bool:
    """Whether masks are computed from the starting model, before the first step."""
    return isinstance(objective, SIBConfig) and objective.masks.frozen is not None


def _asked(objective: Callable[..., Any]) -> Sequence[str]:
    """Return ``("undefined",)`` if a function of the caller's has a parameter of this name."""
    try:
        found = inspect.signature(objective.forward if isinstance(objective, nn.Module) else objective).parameters
    except (TypeError, ValueError):  # a builtin
        return ()
    asked = found.get("undefined")
    return () if asked is None or asked.kind is asked.POSITIONAL_ONLY else ("undefined",)


def _nothing(_: MaskedBatch) -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Plain:
    """The criterion alone."""

    criterion: Criterion

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, _: Tensor | None) -> dict[str, Tensor]:
        logits = model(images)
        check_logits(logits, len(images))
        loss = self.criterion(logits, labels)
        return {"total": loss, "cross_entropy": loss, "logits": logits}
