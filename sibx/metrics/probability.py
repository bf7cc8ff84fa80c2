"""The score of the class explained, its probability or its logit, which all that runs the model starts from."""

from collections.abc import Callable

import torch
from torch import Tensor

from sibx._checks import check_integer, check_labels, check_logits, check_same_batch
from sibx._outputs import Output, by_class, hits, pick, probabilities
from sibx._precise import precise
from sibx.models.failures import say_why

Model = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)
Score = Callable[[Tensor, Tensor], Tensor]  # logits (B, K) in double precision, targets (B,) -> (B, ...)


def probability(
    model: Model, images: Tensor, targets: Tensor, batch_size: int | None = None, *, output: Output = "auto"
) -> Tensor:
    """Probability of the target, (B,) float64 on the device of the logits, without a gradient.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        targets: (B,) class indices; 0 and 1 for a binary model.
        batch_size: largest forward pass; None = all images at once.
        output: what the logits are: ``softmax``, ``sigmoid``, or ``raw``, whose score stands for the probability;
            ``auto`` = ``sigmoid`` for a single logit, else ``softmax``.

    Raises:
        ValueError: targets that are not B classes of the model, or a model whose output is not (B, K).
    """
    return _in_passes(model, images, targets, batch_size, lambda z, t: _of_targets(probabilities(z, output), t))


def answers(
    model: Model, images: Tensor, targets: Tensor, batch_size: int | None = None, *, output: Output = "auto"
) -> Tensor:
    """Probability of the target, and whether the model predicts it, of the same passes.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        targets: (B,) class indices; 0 and 1 for a binary model.
        batch_size: largest forward pass; None = all images at once.
        output: what the logits are, see ``probability``.

    Returns:
        (B, 2) float64: what ``probability`` returns, and 1 or 0; NaN for ``raw`` scores, where nothing is right.

    Raises:
        ValueError: targets that are not B classes of the model, or a model whose output is not (B, K).
    """

    def both(logits: Tensor, targets: Tensor) -> Tensor:
        chances = _of_targets(probabilities(logits, output), targets)
        right = torch.full_like(chances, torch.nan) if output == "raw" else hits(logits, targets, output)
        return torch.stack([chances, right], 1)

    return _in_passes(model, images, targets, batch_size, both)


def logit(
    model: Model, images: Tensor, targets: Tensor, batch_size: int | None = None, *, output: Output = "auto"
) -> Tensor:
    """Logit of the target: what methods explain, and what their attributions add up to.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        targets: (B,) class indices; 0 and 1 for a binary model, whose class 0 has the logit -z.
        batch_size: largest forward pass; None = all images at once.
        output: what the logits are, see ``probability``.

    Returns:
        (B,) float64 on the device of the logits, without a gradient.

    Raises:
        ValueError: targets that are not B classes of the model, or a model whose output is not (B, K).
    """
    return _in_passes(model, images, targets, batch_size, lambda z, t: _of_targets(by_class(z, output), t))


def _in_passes(model: Model, images: Tensor, targets: Tensor, batch_size: int | None, score: Score) -> Tensor:
    check_same_batch(images, targets=targets)
    size = max(1, len(images)) if batch_size is None else batch_size
    check_integer("batch_size", size, 1)
    with torch.inference_mode():
        passes = zip(images.split(size), targets.split(size), strict=True)
        parts = [_scores_of(model, x, t, score) for x, t in passes]
    return torch.cat(parts).clone()  # outside inference_mode: what users get are ordinary tensors


def _scores_of(model: Model, images: Tensor, targets: Tensor, score: Score) -> Tensor:
    with say_why(model, images):
        logits = model(images)
    check_logits(logits, len(images))
    return score(precise(logits), targets.to(logits.device))


def _of_targets(scores: Tensor, targets: Tensor) -> Tensor:
    """Return every row's score of its target, (B,)."""
    check_labels(targets, scores, "targets")
    return pick(scores, targets)
