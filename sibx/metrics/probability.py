"""The probability of the class explained, which every score that runs the model starts from."""

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
    check_same_batch(images, targets=targets)
    size = max(1, len(images)) if batch_size is None else batch_size
    check_range("batch_size", size, 1)
    with torch.inference_mode():
        parts = [_of_pass(model, x, t) for x, t in zip(images.split(size), targets.split(size), strict=True)]
    return torch.cat(parts).clone()  # outside inference_mode: what users get are ordinary tensors


def _of_pass(model: Model, images: Tensor, targets: Tensor) -> Tensor:
    logits = model(images)
    check_logits(logits, len(images))
    check_labels(targets, logits, "targets")
    return logits.double().softmax(1).gather(1, targets.to(logits.device).unsqueeze(1)).squeeze(1)
