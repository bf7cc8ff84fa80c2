"""What may be called while a training runs: one protocol, with methods that do nothing to start from."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from sibx.runs.ranks import on_first_rank
from sibx.runs.rng import restore_rng, rng_state

if TYPE_CHECKING:
    from sibx.train.loop import FineTuneResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch that has ended.

    Attributes:
        number: number of the epoch, counted from 1.
        metrics: its line of ``FineTuneResult.history``.
        model: a copy of the model in eval mode, with the weights that are validated.
        best: whether it is the best epoch so far, by ``TrainConfig.monitor``; False without validation data.
    """

    number: int
    metrics: Mapping[str, float]
    model: nn.Module
    best: bool


class Callback:
    """Base of callbacks of ``fine_tune``: overwrite what you need.

    They are called in the first process only. They get copies, and torch's, NumPy's and Python's random generators are
    put back, so that a training has the same result with and without them; only ``on_epoch`` may end it early.
    """

    def on_start(self, model: nn.Module, epoch: int) -> None:
        """Before the first step.

        Args:
            model: a copy of the model, in eval mode.
            epoch: number of epochs that were completed before an interruption, 0 for a new run.
        """

    def on_epoch(self, epoch: Epoch) -> bool | None:
        """After every epoch, and its validation.

        Args:
            epoch: the epoch that has ended.

        Returns:
            True to end the training after this epoch.
        """

    def on_end(self, result: "FineTuneResult") -> None:
        """After the last epoch.

        Args:
            result: what ``fine_tune`` returns.
        """


class Callbacks:
    """Several callbacks, called without a trace in the training; every rank has to call the methods.

    Args:
        members: the callbacks.
        device: device of the training, whose generator is put back.
    """

    def __init__(self, members: Sequence[Callback], device: torch.device):
        self.members, self.device = members, device

    def start(self, model: nn.Module, epoch: int) -> None:
        """Say that the training starts."""
        for member in self.members:
            self._quietly(partial(member.on_start, _shown(model), epoch))

    def epoch(self, model: nn.Module, metrics: Mapping[str, float], *, best: bool) -> bool:
        """Say that an epoch has ended; return whether the training shall end."""
        number = int(metrics["epoch"])
        stops = [
            self._quietly(partial(member.on_epoch, Epoch(number, dict(metrics), _shown(model), best)))
            for member in self.members
        ]
        return any(stop is True for stop in stops)

    def end(self, result: "FineTuneResult") -> None:
        """Say that the training has ended."""
        for member in self.members:
            self._quietly(partial(member.on_end, result))

    def _quietly(self, call: Callable[[], T]) -> T:
        before = rng_state(self.device)
        try:
            return on_first_rank(call)
        finally:
            restore_rng(before, self.device)


def _shown(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval()
