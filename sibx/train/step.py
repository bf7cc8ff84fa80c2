"""One optimizer step, and everything whose state a step changes."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sibx._checks import require
from sibx._outputs import Criterion, hits, warn_of_probabilities
from sibx.datasets.base import MaskedBatch
from sibx.models.centering import center
from sibx.models.failures import say_why
from sibx.models.heads import head_parameters
from sibx.objectives import SIBLoss
from sibx.runs.ranks import world_size
from sibx.train._centered_head import head_to_center
from sibx.train.auxiliary import Auxiliary
from sibx.train.config import TrainConfig
from sibx.train.losses import Loss
from sibx.train.trainable import is_frozen


class Learner:
    """A model with its optimizer, schedule, loss scaler and moving average.

    Args:
        model: the model to train, on its device; it is changed.
        loss: the loss to minimize, see ``build_loss``.
        config: settings of the training.
        steps: length of the schedule, in steps.
        images: images (B, C, H, W) of the data, with which the head is found; None = noise of the model's own size.
        criterion: what auxiliary heads minimize, (scores, labels) -> scalar; None = they do not learn.

    In a process group, DistributedDataParallel averages the gradients of all ranks, and starts all ranks from the
    weights of the first.

    Attributes:
        model: the model that is trained.
        network: the module that is run: the model, or DistributedDataParallel around it.
        average: the model whose weights are the moving average; without ``config.ema`` the model itself.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        config: TrainConfig,
        steps: int,
        images: Tensor | None = None,
        criterion: Criterion | None = None,
    ):
        self.model, self.config = model, config
        self.device = next(model.parameters()).device
        self.loss, self.objective = loss, loss.module
        self.auxiliary = Auxiliary(model, criterion, config.auxiliary_weight)
        self.network = _parallel(model) if world_size() > 1 else model
        example = None if images is None else images.to(self.device)
        self.head = head_to_center(model, example) if config.centers else None
        self._center()
        self.average = model if config.ema is None else copy.deepcopy(model).eval()
        peaks = _peaks(model, config, example)
        self.optimizer = _optimizer(peaks, config)
        self.schedule = _schedule(self.optimizer, list(peaks), config, steps)
        rule = "be None or 'bfloat16' without a GPU"
        require(config.amp != "float16" or self.device.type == "cuda", "amp", rule, config.amp)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "float16")
        self.warm_up_steps = config.warm_up * steps / config.epochs
        self._noticed = False

    def step(self, batches: Sequence[MaskedBatch], number: int) -> list[dict[str, Tensor]]:
        """Take one step.

        Args:
            batches: micro-batches of the step.
            number: number of steps taken before, which the warm-up depends on.

        Returns:
            Loss terms and accuracy of every micro-batch, as scalars.
        """
        self.model.zero_grad(set_to_none=True)
        ramp = min(1.0, number / self.warm_up_steps) if self.warm_up_steps else 1.0
        terms = []
        wrapped = self.network if isinstance(self.network, DistributedDataParallel) else None
        for part, batch in enumerate(batches, 1):
            # Ranks exchange gradients once per step, with the last micro-batch.
            with wrapped.no_sync() if wrapped and part < len(batches) else nullcontext():
                terms.append(self._backward(batch.to(self.device), ramp, len(batches)))
        self._update()
        return terms

    def gradient_norms(self, batch: MaskedBatch) -> dict[str, float]:
        """Return the gradient norm of each term of an S-IB loss, ``norm_<term>``, in full precision; {} for others."""
        if not isinstance(self.objective, SIBLoss):
            return {}
        batch = batch.to(self.device)
        wrapped = self.network if isinstance(self.network, DistributedDataParallel) else None
        with wrapped.no_sync() if wrapped else nullcontext():
            norms = self.objective.gradient_norms(
                self.network,
                batch.images,
                batch.labels,
                self.loss.reads(batch),
                undefined=self.loss.undefined(batch),
            )
        self.auxiliary.loss(batch.labels)  # of no use here, and its graph is to be forgotten
        return {f"norm_{name}": norm for name, norm in norms.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, as tensors and plain values."""
        names = ["model", "optimizer", "schedule", "scaler"]
        names += ["average"] if self.config.ema is not None else []
        names += ["objective"] if self.objective is not None else []
        return {name: getattr(self, name).state_dict() for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that ``state_dict`` returned."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)

    def set_mode(self) -> None:
        """Put the model in train mode, except BatchNorm that is frozen or whose statistics the settings keep."""
        self.model.train()
        for module in self.model.modules():
            normalizes = isinstance(module, nn.modules.batchnorm._NormBase)
            if normalizes and (self.config.batch_norm == "eval" or is_frozen(module)):
                module.eval()

    def _backward(self, batch: MaskedBatch, ramp: float, parts: int) -> dict[str, Tensor]:
        """Add the gradient of a micro-batch to the parameters, and return its terms."""
        half = getattr(torch, self.config.amp) if self.config.amp else None
        failing = say_why(self.model, batch.images)
        with failing, torch.autocast(self.device.type, half, enabled=half is not None):
            terms = self.loss(self.network, batch, ramp)
            heads = self.auxiliary.loss(batch.labels)
        if heads is not None:
            terms |= {"total": terms["total"] + heads, "auxiliary": heads}
        # Only with respect to the parameters: a backward pass to all leaves would also go to the images.
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.scaler.scale(terms["total"] / parts).backward(inputs=parameters)
        if "logits" in terms and not self._noticed:
            self._noticed = True  # what the first micro-batch looks like, all others do
            warn_of_probabilities(terms["logits"], self.config.output)
        if "logits" in terms and self.config.output != "raw":
            terms["accuracy"] = hits(terms["logits"].detach(), batch.labels, self.config.output).nanmean()
        if self.loss.reads_masks(batch) and len(batch.masks):
            terms["masked"] = batch.masks.flatten(1).any(1).float().mean()
        return {k: v.detach() for k, v in terms.items() if v.ndim == 0}

    def _update(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # otherwise the gradient overflowed and no step was taken
            self.schedule.step()
        self._center()
        if self.config.ema is not None:
            _move_average(self.average, self.model, self.config.ema)

    def _center(self) -> None:
        """Take out what all classes share: the loss does not see it, and Adam moves it."""
        if self.head is not None:
            center(self.head)


def _parallel(model: nn.Module) -> DistributedDataParallel:
    """Wrap a model for the default process group."""
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


@torch.no_grad()
def _move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move parameters and buffers toward those of the model; integer buffers (counts) are copied."""
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)


def _peaks(model: nn.Module, config: TrainConfig, images: Tensor | None) -> dict[float, list[nn.Parameter]]:
    """Return the parameters by their learning rate at the peak."""
    if config.head_learning_rate is None:
        return {config.learning_rate: list(model.parameters())}
    head = {id(p) for p in head_parameters(model, images)}
    peaks: dict[float, list[nn.Parameter]] = {config.learning_rate: [], config.head_learning_rate: []}
    for parameter in model.parameters():
        peaks[config.head_learning_rate if id(parameter) in head else config.learning_rate].append(parameter)
    return peaks


def _optimizer(peaks: Mapping[float, list[nn.Parameter]], config: TrainConfig) -> torch.optim.Optimizer:
    groups = [{"params": parameters, "lr": peak} for peak, parameters in peaks.items()]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, peaks: list[float], config: TrainConfig, steps: int) -> Any:
    if config.schedule == "one-cycle":
        cycle = config.optimizer == "adamw"
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps, cycle_momentum=cycle)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
