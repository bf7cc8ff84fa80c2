"""Just train twice, to compare with: what a short training gets wrong is shown more often in the second one.

Source: Liu, Haghgoo, Chen, Raghunathan, Koh, Sagawa, Liang and Finn, Just Train Twice: Improving Group Robustness
without Training Group Information, ICML 2021, arXiv 2107.09044. Both trainings start from the same weights; no groups
are needed. The published number of epochs and factor (Waterbirds: 60 and 100; CelebA: 1 and 50) are chosen on
validation data with groups, so they have to be chosen anew for other data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sibx._checks import check_integer
from sibx.datasets.base import MaskedDataset
from sibx.datasets.part import Part
from sibx.train.predictions import predict


@dataclass(frozen=True, slots=True)
class UpsampleErrors:
    """Repeats the images that a model of few epochs gets wrong.

    Attributes:
        epochs: number of epochs T of the first training, at least 1.
        factor: how often an image that was wrong is seen in an epoch of the second one, at least 1; others once.

    Raises:
        ValueError: numbers that are too small.
    """

    epochs: int = 1
    factor: int = 20

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_integer("factor", self.factor, 1)

    def __call__(self, data: MaskedDataset, learn: Callable[[int], nn.Module]) -> MaskedDataset:
        """Return the data for the second training.

        Args:
            data: data to train on.
            learn: trains a copy of the starting model by cross-entropy for so many epochs, and returns it.
        """
        predicted, labels = predict(learn(self.epochs), data)
        times = torch.where(predicted == labels, 1, self.factor)
        return Part(data, torch.arange(len(times)).repeat_interleave(times).tolist())
