"""Whether own masks can be trusted: the model must know its labels, and the masks hold what its classes rest on."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx._outputs import Output, hits, predicted, probabilities
from sibx.models.layers import eval_mode

LEAST = 20  # images below which nothing is said: chance alone would
ERRORS = 2.0  # standard errors that the number of right images must lie above chance


class Trust(NamedTuple):
    """What a model says of the images of a batch, whole and in two parts.

    Attributes:
        right: 1 where the label is predicted, else 0, NaN where it is none of the model's classes, (B,).
        labels: class indices (B,).
        inside: probability of the predicted class with the pixels outside the mask at the data set's mean, (B,).
        outside: the same with those inside the mask at the mean, (B,).
    """

    right: Tensor
    labels: Tensor
    inside: Tensor
    outside: Tensor


def trust_in(model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor, output: Output) -> Trust:
    """Measure one batch, on the CPU; it costs three forward passes.

    Args:
        model: the model; it runs in eval mode.
        images: images (B, C, H, W), normalized, so that 0 is the data set's mean.
        labels: class indices (B,).
        masks: the model's own masks (B, 1, H, W) bool.
        output: what the logits are.
    """
    with eval_mode(model), torch.inference_mode():
        logits = model(images)
        chosen = predicted(logits, output).unsqueeze(1)
        parts = [probabilities(model(images * part), output) for part in (masks, ~masks)]
        inside, outside = (part.gather(1, chosen)[:, 0].cpu() for part in parts)
    known = bool((labels < parts[0].shape[1]).all())
    right = hits(logits, labels, output).cpu() if known else torch.full(labels.shape, torch.nan)
    return Trust(right, labels.cpu(), inside, outside)


def warn_of_distrust(batches: Sequence[Trust]) -> None:
    """Warn where masks of these batches mean little, with the numbers that say so."""
    if not batches:
        return
    found = Trust(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    n = len(found.labels)
    if n < LEAST:
        return
    right, most = float(found.right.sum()), int(found.labels.bincount().max())
    if right <= most + ERRORS * (most * (n - most) / n) ** 0.5:
        warnings.warn(
            f"self_masks: the model predicts the label of {right:.0f} of {n} images; always naming the most frequent "
            f"class would be right for {most}. Masks of a model that does not know its classes mean little: train it "
            "with cross-entropy first, until it fits its labels.",
            stacklevel=3,
        )
    inside, outside = float(found.inside.mean()), float(found.outside.mean())
    if inside <= outside:
        warnings.warn(
            f"self_masks: the predicted class keeps a mean probability of {inside:.2f} from the masks alone, and of "
            f"{outside:.2f} from everything else: the masks do not hold what the model's classes rest on.",
            stacklevel=3,
        )
