"""Which images an epoch sees, in which order and how augmented: all of it depends only on the seed and the epoch.

Everything random about the data is drawn before the epoch starts, so an interrupted epoch continues where it stopped,
and every process of a distributed run knows its share without communication.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sibx.datasets.base import MaskedBatch, MaskedDataset, MaskedSample, collate
from sibx.images.geometry import apply_augmentation, draw_augmentation
from sibx.runs.rng import seed_rng
from sibx.train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """An epoch of S steps.

    Attributes:
        epoch: number of the epoch, counted from 0.
        images: indices (S, A, b) of the b images of each of the A micro-batches of a step.
        draws: random numbers (S, A, b, 4) for the augmentation of these images, from ``draw_augmentation``.
    """

    epoch: int
    images: Tensor
    draws: Tensor

    def after(self, step: int) -> "EpochPlan":
        """Return the plan without its first ``step`` steps."""
        return replace(self, images=self.images[step:], draws=self.draws[step:])

    def share(self, rank: int, ranks: int) -> "EpochPlan":
        """Return the plan of one process: an equal part of every micro-batch."""
        return replace(self, images=self.images.chunk(ranks, 2)[rank], draws=self.draws.chunk(ranks, 2)[rank])


def epoch_plans(config: TrainConfig, labels: Tensor | int, first: int = 0) -> Iterator[EpochPlan]:
    """Yield the plans of all epochs from the given one on.

    Args:
        config: settings of the training; seed, batch size, micro-batches and augmentation are used.
        labels: indices (N,) of classes or groups, all to be drawn equally often, or the number N of images for a
            permutation.
        first: epoch to start at, counted from 0; earlier epochs are drawn and dropped.
    """
    return islice(_plans(config, labels), first, None)


def load(data: MaskedDataset, plan: EpochPlan, config: TrainConfig) -> Iterator[Sequence[MaskedBatch]]:
    """Yield every step of the plan as its augmented micro-batches."""
    loader = DataLoader(
        _SeededDataset(data, config.seed, plan.epoch),
        batch_sampler=plan.images.flatten(0, 1).tolist(),
        num_workers=config.workers,
        generator=torch.Generator(),  # without one, a DataLoader takes a number from the global generator
        collate_fn=collate,
    )
    batches = iter(loader)
    for draws in plan.draws:
        yield [_augmented(next(batches), config, rows) for rows in draws]


class _SeededDataset(Dataset[MaskedSample]):
    """Makes a random sample depend only on seed, epoch and index if a worker process loads it.

    The states of a worker's generators are lost when it ends; those of the training process are in the checkpoint.
    """

    def __init__(self, data: MaskedDataset, seed: int, epoch: int):
        self.data, self.seed, self.epoch = data, seed, epoch

    def __getitem__(self, index: int) -> MaskedSample:
        if get_worker_info() is not None:
            seed_rng(hash((self.seed, self.epoch, index)))
        return self.data[index]


def _plans(config: TrainConfig, labels: Tensor | int) -> Iterator[EpochPlan]:
    """Yield the plans of all epochs, from one stream of random numbers.

    The number at the beginning and the permutation at the end of every epoch are not used. A shuffling DataLoader, with
    which the published results were made, takes them from its generator.
    """
    generator = torch.Generator().manual_seed(config.seed)
    total = labels if isinstance(labels, int) else len(labels)
    steps = total // config.batch_size
    shape = (steps, config.accumulate, config.batch_size // config.accumulate)
    for epoch in count():
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        order = _order(labels, generator)[: steps * config.batch_size]
        draws = [draw_augmentation(config.batch_size, config.augmentation, generator) for _ in range(steps)]
        torch.randperm(total, generator=generator)
        yield EpochPlan(epoch, order.view(shape), torch.cat(draws).view(*shape, 4))


def _order(labels: Tensor | int, generator: torch.Generator) -> Tensor:
    if isinstance(labels, int):
        return torch.randperm(labels, generator=generator)
    weights = 1 / labels.bincount().double()
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)


def _augmented(batch: MaskedBatch, config: TrainConfig, draws: Tensor) -> MaskedBatch:
    if batch.labels.ndim == 1:
        images, (masks,) = apply_augmentation(batch.images, [batch.masks], config.augmentation, draws)
        return replace(batch, images=images, masks=masks)
    images, _ = apply_augmentation(batch.images, [], config.augmentation, draws)
    owners = (batch.labels == 1).nonzero()[:, 0]
    _, (masks,) = apply_augmentation(batch.masks.float(), [batch.masks], config.augmentation, draws[owners])
    return replace(batch, images=images, masks=masks)
