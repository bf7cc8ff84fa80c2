"""What stands in for real maps and models where scores are timed, and the clock."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx.objectives import CKA

CLASSES = 10
# What makes the recommended objective one with every term, as it was when the costs (docs/results) were measured.
EVERY_TERM: dict[str, Any] = {"foreground": CKA(0.1), "swap": 1.0, "balance": None}


class Counted(nn.Module):
    """A model that counts the images it is given."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the model (B, K)."""
        self.images += len(images)
        logits: Tensor = self.model(images)
        return logits


class Free(nn.Module):
    """A model that costs nothing."""

    def forward(self, images: Tensor) -> Tensor:
        """Zeros (B, K)."""
        return images.new_zeros(len(images), CLASSES)


class Given:
    """What torchcam's metric asks of a CAM extractor, answered with maps that are there already."""

    def __init__(self, maps: Tensor, model: nn.Module):
        self.maps, self.model = maps, model

    def __enter__(self) -> "Given":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        """One map per layer."""
        return [self.maps.squeeze(1)]

    def fuse_cams(self, maps: list[Tensor]) -> Tensor:
        """The map of the only layer."""
        return maps[0]

    def _hooks_off(self) -> AbstractContextManager[None]:
        return nullcontext()


def draw_maps(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Smooth random maps (N, 1, H, W) with ties, as a CAM behind a ReLU has them, and masks of one ellipse each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 14, 14, generator=generator)
    maps = (F.interpolate(coarse, (side, side), mode="bilinear") - 0.4).clamp(min=0)
    axis = torch.linspace(-1, 1, side)
    center, radius = torch.rand(2, count, 1, 1, generator=generator) - 0.5, 0.2 + 0.4 * torch.rand(2, count, 1, 1)
    inside = ((axis[:, None] - center[0]) / radius[0]) ** 2 + ((axis - center[1]) / radius[1]) ** 2 < 1
    return maps, inside[:, None]


def medians(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median processor seconds of every run; they take turns, and the first turn only warms up."""
    seconds = []
    for _ in range(1 + rounds):
        turn = []
        for run in runs:
            start = time.process_time()
            run()
            turn.append(time.process_time() - start)
        seconds.append(turn)
    return [statistics.median(column) for column in zip(*seconds[1:], strict=True)]
