"""A training that cannot go on: images or a loss that are not finite."""

import math
from collections.abc import Sequence

from sibx._checks import require
from sibx.datasets.base import MaskedBatch


def check_images(batches: Sequence[MaskedBatch]) -> None:
    """Raise ValueError with the names of images that are not finite: one of them makes every weight NaN."""
    for batch in batches:
        good = batch.images.isfinite().flatten(1).all(1).tolist()
        bad = [name for name, fine in zip(batch.ids, good, strict=True) if not fine]
        require(not bad, "train_data", "hold finite images", bad)


def check_loss(total: float, epoch: int, step: int) -> None:
    """Raise FloatingPointError unless the loss is a number.

    Args:
        total: the loss, or a sum of losses.
        epoch: number of the epoch, counted from 1.
        step: number of the step in the epoch, counted from 1.
    """
    if not math.isfinite(total):
        raise FloatingPointError(
            f"training diverged: the loss is {total} in epoch {epoch}, step {step}. A smaller `learning_rate`, or "
            "`clip_norm`, may help; the newest checkpoint is from before."
        )
