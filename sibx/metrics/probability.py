"""The score of the class explained, its probability or its logit, which all that runs the model starts from."""

from collections.abc import Callable

import torch
from torch import Tensor

from sibx._checks import check_labels, check_logits, check_range, check_same_batch

Model = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)


def probability(model: Model, images: Tensor, targets: Tensor, batch_size: int | None = None) -> Tensor:
    """Softmax probability of the target, (B,) float64 on the device of the logits, without a gradient.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        targets: (B,) class indices.
        batch_size: largest forward pass; None = all images at once.

    Raises:
        ValueError: targets that are not B classes of the model, or a model whose output is not (B, K).
    """
    return _in_passes(model, images, targets, batch_size, lambda logits: logits.softmax(1))


def logit(model: Model, images: Tensor, targets: Tensor, batch_size: int | None = None) -> Tensor:
    """Logit of the target: what methods explain, and what their attributions add up to.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        targets: (B,) class indices.
        batch_size: largest forward pass; None = all images at once.

    Returns:
        (B,) float64 on the device of the logits, without a gradient.

    Raises:
        ValueError: targets that are not B classes of the model, or a model whose output is not (B, K).
    """
    return _in_passes(model, images, targets, batch_size, lambda logits: logits)


def _in_passes(
    model: Model, images: Tensor, targets: Tensor, batch_size: int | None, scores: Callable[[Tensor], Tensor]
) -> Tensor:
    check_same_batch(images, targets=targets)
    size = max(1, len(images)) if batch_size is None else batch_size
    check_range("batch_size", size, 1)
    with torch.inference_mode():
        passes = zip(images.split(size), targets.split(size), strict=True)
        parts = [_pick(scores(_logits(model, x, t)), t) for x, t in passes]
    return torch.cat(parts).clone()  # outside inference_mode: what users get are ordinary tensors


def _logits(model: Model, images: Tensor, targets: Tensor) -> Tensor:
    logits = model(images)
    check_logits(logits, len(images))
    check_labels(targets, logits, "targets")
    return logits.double()


def _pick(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.gather(1, targets.to(scores.device).unsqueeze(1)).squeeze(1)
