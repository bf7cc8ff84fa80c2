"""What object and background contribute to a score: the exact Shapley values of two players, in four passes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_images, check_masks, require
from sibx.attribution._modes import warn_of_train_mode
from sibx.attribution.safe import format_target, select_scores
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.models.layers import frozen_batch_norm


class ObjectShapley(NamedTuple):
    """Shapley values of object and background, all (B,), signed, in units of the score.

    Attributes:
        object: what the object contributes; with ``background`` it sums to s(image) - s(nothing).
        background: what the background contributes.
        interaction: s(image) - s(object) - s(background) + s(nothing): below 0 either suffices without the other, above
            0 they need each other. Half of it is part of either value.
    """

    object: Tensor
    background: Tensor
    interaction: Tensor


@torch.no_grad()
def object_shapley(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    masks: Tensor,
    target: Any = None,
    *,
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
) -> ObjectShapley:
    """Return what object and background contribute to the target's score, each averaged over both orders.

    With the score s of an image of which only a part is left, ``object = ((s(object) - s(nothing)) + (s(image) -
    s(background))) / 2``, and the background likewise. Exact, in four forward passes of the batch.

    Args:
        model: any function from images (B, C, H, W) to scores (B, K), or to one score per row; a module runs in the
            mode it is in, with a warning in train mode, and BatchNorm's running statistics stay what they were.
        images: images (B, C, H, W), normalized.
        masks: bool object masks (B, 1, H, W).
        target: the class, an int for all images or one int per image; None = one score per row.
        baseline: what replaces the other part, see ``make_baseline``; the outline of the object stays visible in it.
        normalization: normalization of the images, for the baseline ``black``.

    Raises:
        ValueError: images, masks or a target of a wrong form, or an unknown baseline.

    Source: Shapley, Contributions to the Theory of Games II, 1953, for two players.

    Example:
        >>> mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> mask[..., :2] = True
        >>> parts = object_shapley(lambda x: x.sum((1, 2, 3)), torch.ones(1, 1, 4, 4), mask)
        >>> parts.object.item(), parts.background.item(), parts.interaction.item()
        (8.0, 8.0, 0.0)
    """
    require(callable(model), "model", "be a module or a function", model)
    check_images(images)
    check_masks(masks, images)
    target = format_target(target)
    nothing = make_baseline(images, baseline, normalization)

    def score(seen: Tensor) -> Tensor:
        return select_scores(run_forward(model, seen, None), target, len(images)).reshape(len(images))

    warn_of_train_mode(model)
    with frozen_batch_norm(model):
        empty, whole = score(nothing), score(images)
        front, back = score(images.where(masks, nothing)), score(nothing.where(masks, images))
    return ObjectShapley(
        (front - empty + whole - back) / 2, (back - empty + whole - front) / 2, whole - front - back + empty
    )
