"""Which images an epoch sees, in which order and how augmented: all of it depends only on the seed and the epoch.

Everything random about the data is drawn before the epoch starts, so an interrupted epoch continues where it stopped,
and every process of a distributed run knows its share without communication.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torchvision import tv_tensors

from sibx._checks import require
from sibx.datasets.base import MaskedBatch, MaskedDataset, MaskedSample, collate
from sibx.images.geometry import Augmentation, apply_augmentation, draw_augmentation
from sibx.images.normalization import Normalization
from sibx.runs.rng import restore_rng, rng_state, seed_cpu_rng, seed_rng
from sibx.train.config import TrainConfig

CPU = torch.device("cpu")


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
        _SeededDataset(data, config, plan.epoch),
        batch_sampler=plan.images.flatten(0, 1).tolist(),
        num_workers=config.workers,
        generator=torch.Generator(),  # without one, a DataLoader takes a number from the global generator
        collate_fn=collate,
    )
    batches = iter(loader)
    for draws in plan.draws:
        yield [_augmented(next(batches), config, rows) for rows in draws]


class _SeededDataset(Dataset[MaskedSample]):
    """Makes a random sample, if a worker loads it, and a transform always, depend only on seed, epoch and index.

    The states of a worker's generators are lost when it ends; those of the training process are in the checkpoint.
    """

    def __init__(self, data: MaskedDataset, config: TrainConfig, epoch: int):
        self.data, self.seed, self.epoch = data, config.seed, epoch
        self.transform = config.augmentation if callable(config.augmentation) else None

    def __getitem__(self, index: int) -> MaskedSample:
        if get_worker_info() is not None:
            seed_rng(hash((self.seed, self.epoch, index)))
        sample = self.data[index]
        if self.transform is None:
            return sample
        before = rng_state(CPU)
        seed_cpu_rng(hash((self.seed, self.epoch, index, 1)))  # other numbers than those that the sample is made with
        try:
            return transformed(sample, self.transform, self.data.normalization)
        finally:
            restore_rng(before, CPU)


def transformed(sample: MaskedSample, transform: Callable[..., Any], normalization: Normalization) -> MaskedSample:
    """Return a sample after a transform of its pixels and masks, see ``TrainConfig.augmentation``.

    Args:
        sample: the sample; its image is normalized.
        transform: function of an image and two masks, as tv_tensors.
        normalization: normalization of the image.

    Raises:
        ValueError: the transform returns something else than an image and two masks of the same shapes.
    """
    masks = [sample.mask, sample.undefined]
    pixels = normalization.inverse(sample.image).clamp(0, 1)
    found = transform(tv_tensors.Image(pixels), *(tv_tensors.Mask(mask) for mask in masks))
    shapes = [tuple(getattr(part, "shape", ())) for part in found] if isinstance(found, tuple | list) else type(found)
    wanted = [tuple(part.shape) for part in (pixels, *masks)]
    require(shapes == wanted, "augmentation", f"return an image and two masks of the shapes {wanted}", shapes)
    image, mask, undefined = (part.as_subclass(Tensor) for part in found)
    return sample._replace(image=normalization(image), mask=mask.bool(), undefined=undefined.bool())


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
        draws = [draw_augmentation(config.batch_size, _named(config), generator) for _ in range(steps)]
        torch.randperm(total, generator=generator)
        yield EpochPlan(epoch, order.view(shape), torch.cat(draws).view(*shape, 4))


def _order(labels: Tensor | int, generator: torch.Generator) -> Tensor:
    if isinstance(labels, int):
        return torch.randperm(labels, generator=generator)
    weights = 1 / labels.bincount().double()
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)


def _augmented(batch: MaskedBatch, config: TrainConfig, draws: Tensor) -> MaskedBatch:
    regions = [batch.masks, batch.undefined]
    if batch.labels.ndim == 1:
        images, (masks, undefined) = apply_augmentation(batch.images, regions, _named(config), draws)
        return replace(batch, images=images, masks=masks, undefined=undefined)
    images, _ = apply_augmentation(batch.images, [], _named(config), draws)
    owners = (batch.labels == 1).nonzero()[:, 0]
    _, (masks, undefined) = apply_augmentation(batch.masks.float(), regions, _named(config), draws[owners])
    return replace(batch, images=images, masks=masks, undefined=undefined)


def _named(config: TrainConfig) -> Augmentation:
    """Return the augmentation of whole batches; a transform is one of samples."""
    return "none" if callable(config.augmentation) else config.augmentation
