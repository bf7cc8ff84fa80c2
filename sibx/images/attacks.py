"""Adversarial images for a classifier: FGSM and PGD.

``sibx.evaluation.evaluate_robustness`` runs a model on them. The attacks change pixels (B, C, H, W) in [0, 1]. A model
here takes pixels, so normalization is part of the model.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from captum.robust import FGSM
from torch import Tensor

from sibx._checks import check_integer, check_labels, check_logits, check_range
from sibx._outputs import Output, kind_of
from sibx._precise import precise
from sibx.images.pixels import check_unit_pixels, draw_rows

Model = Callable[[Tensor], Tensor]

STEPS, OVERSHOOT = 10, 2.5  # number of PGD steps; their total length in epsilons (Madry 2018)


def fgsm(model: Model, pixels: Tensor, labels: Tensor, epsilon: float, *, output: Output = "auto") -> Tensor:
    """Move every value by epsilon in the direction that raises the cross-entropy: ``x + epsilon sign(dCE / dx)``.

    The result is clipped to [0, 1]. The sign is taken from ``m = logsumexp of the other logits - the label's logit``,
    of independent labels from minus the label's logit (of class 0 of a binary model from the logit):
    CE = log(1 + exp(m)) grows with m, so the sign is the same, but m does not saturate where the model is certain.
    Captum's threshold of 1e-6, below which it treats a gradient as zero, is set to zero, too. Otherwise a model that is
    only more confident would look more robust.

    Args:
        model: the model, pixels -> logits (B, K); it runs in the mode it is in.
        pixels: images x, (B, C, H, W), floating point, in [0, 1].
        labels: true class indices (B,).
        epsilon: size of the change, in [0, 1], in units of pixel values: 2 / 255 is two gray levels.
        output: what the logits are: ``softmax`` or ``sigmoid`` (a single logit has the classes 0 and 1); ``auto`` =
            ``sigmoid`` for a single logit, else ``softmax``.

    Returns:
        Adversarial pixels (B, C, H, W) in [0, 1], detached. A value on which m does not depend stays.

    Raises:
        ValueError: a wrong shape or dtype, values out of range, or an output that is not (B, K).

    Source: Goodfellow, Shlens, Szegedy, arXiv 1412.6572 (ICLR 2015), through captum.robust.FGSM.
    """
    check_unit_pixels(pixels)
    check_range("epsilon", epsilon, 0, 1)
    return _ascend(model, pixels, labels, epsilon, output)


def pgd(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    seeds: Sequence[int],
    steps: int = STEPS,
    step_size: float | None = None,
    output: Output = "auto",
) -> Tensor:
    """Repeat FGSM in short steps within epsilon of the image, from a random point: projected gradient ascent.

    ``x_(t+1) = clip(x_t + step_size sign(dCE / dx_t))``, clipped to [x - epsilon, x + epsilon] and to [0, 1]; x_0 is
    uniform in the first interval, before the clip to [0, 1]. Each step is Captum's FGSM; the start is ours, because
    Captum's PGD draws it from torch's global generator, for the batch as a whole.

    Args:
        model: the model, pixels -> logits (B, K); it runs in the mode it is in.
        pixels: images x, (B, C, H, W), floating point, in [0, 1].
        labels: true class indices (B,).
        epsilon: largest change of a value, in [0, 1], in units of pixel values.
        seeds: seeds of the random starts, one per image.
        steps: number of steps, at least 1.
        step_size: length of a step, at least 0; None = 2.5 epsilon / steps, enough to reach the border of the interval
            from any start and to move along it.
        output: what the logits are: ``softmax`` or ``sigmoid`` (a single logit has the classes 0 and 1); ``auto`` =
            ``sigmoid`` for a single logit, else ``softmax``.

    Returns:
        Adversarial pixels (B, C, H, W) in [0, 1], detached.

    Raises:
        ValueError: a wrong shape or dtype, values out of range, an output that is not (B, K), or another number of
            seeds than images.

    Source: Madry et al., arXiv 1706.06083 (ICLR 2018).
    """
    check_unit_pixels(pixels, seeds)
    check_range("epsilon", epsilon, 0, 1)
    check_integer("steps", steps, 1)
    size = OVERSHOOT * epsilon / steps if step_size is None else step_size
    check_range("step_size", size, 0)
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    start = draw_rows(pixels, seeds, torch.rand) * 2 - 1
    adversarial = (pixels + epsilon * start).clamp(low, high)
    for _ in range(steps):
        adversarial = _ascend(model, adversarial, labels, size, output).clamp(low, high)
    return adversarial


def _ascend(model: Model, pixels: Tensor, labels: Tensor, size: float, output: Output) -> Tensor:
    """Take one step of FGSM."""
    attack = FGSM(model, partial(_margin, output=output), lower_bound=0.0, upper_bound=1.0)
    attack.zero_thresh = 0.0
    with torch.inference_mode(False), torch.enable_grad():
        return attack.perturb(pixels.detach().clone().requires_grad_(), size, labels).detach()


def _margin(logits: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Return how far the label's logit is below what it has to beat, (B,)."""
    check_logits(logits, len(labels))
    kind = kind_of(logits, output)
    of_classes = kind.class_scores(precise(logits))
    check_labels(labels, of_classes)
    if kind.margin is None:
        raise ValueError(f"`output` must be 'softmax' or 'sigmoid' for an attack, but got {output!r}.")
    return kind.margin(of_classes, labels.to(of_classes.device))
