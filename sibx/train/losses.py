"""Objectives of all kinds, in the one form in which the training loop calls them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import require
from sibx.datasets.base import MaskedBatch
from sibx.objectives import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss
from sibx.objectives.own_masks.frozen import layer_weights

# Settings of a loss of sibx; None = cross-entropy; or a function (model, images, labels, masks) -> the scalar to
# minimize, or terms with a ``total`` and, for the training accuracy, ``logits``.
Objective = SIBConfig | GuidanceConfig | Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss for the loop.

    Attributes:
        compute: function ``(model, images, labels, masks)`` -> the scalar to minimize, or terms; a ``module`` takes
            ``ramp=`` too.
        needs_masks: whether the loss uses masks.
        module: the loss as a module, if it has a state for checkpoints and takes a warm-up, else None.
    """

    compute: Callable[..., Any]
    needs_masks: bool = True
    module: SIBLoss | GuidanceLoss | None = None

    def __call__(self, model: nn.Module, batch: MaskedBatch, ramp: float) -> dict[str, Tensor]:
        """Return the terms of a batch by name, ``total`` among them."""
        masks = batch.masks if self.needs_masks else None
        options = {} if self.module is None else {"ramp": ramp}
        terms = self.compute(model, batch.images, batch.labels, masks, **options)
        if isinstance(terms, Tensor):
            return {"total": terms}
        named = dict(terms) if isinstance(terms, Mapping) else dict(terms._asdict())
        require("total" in named, "objective", "return a scalar, or terms with a `total`", sorted(named))
        return named


def build_loss(model: nn.Module, objective: Objective) -> Loss:
    """Return the loss of an objective for a model, with ``"auto"`` layers looked up once."""
    if objective is None:
        return Loss(_cross_entropy, needs_masks=False)
    if isinstance(objective, SIBConfig):
        loss: SIBLoss | GuidanceLoss = SIBLoss(replace(objective, layers=layer_weights(model, objective)))
    elif isinstance(objective, GuidanceConfig):
        loss = GuidanceLoss(objective.resolved(model))
    else:
        return Loss(objective)
    loss.to(next(model.parameters()).device)
    return Loss(loss, objective.needs_masks, loss)


def reads_own_masks(objective: Objective) -> bool:
    """Whether masks are computed from the starting model, before the first step."""
    return isinstance(objective, SIBConfig) and objective.masks.frozen is not None


def _cross_entropy(model: nn.Module, images: Tensor, labels: Tensor, _: Tensor | None) -> dict[str, Tensor]:
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    return {"total": loss, "cross_entropy": loss, "logits": logits}
