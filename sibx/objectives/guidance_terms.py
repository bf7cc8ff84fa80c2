"""The guidance terms of other papers, as functions of maps, masks and answers per image.

The papers and their authors' code sum or average over images in different ways. Here every term is the mean over
images, like the cross-entropy, so that a weight does not depend on the batch size; published weights cannot be used
unchanged. The second versions of images that some terms compare are in ``sibx.objectives.companions``. Masks are the
object's pixels where the papers use boxes or annotations. Pixels that are marked undefined are neither object nor
background (``undefined`` U is their share of every cell) and enter no term. Each function names its other departures.
"""

from torch import Tensor, ones_like

EPSILON = 1e-12  # keeps a quotient finite where no attribution is positive; its numerator is then zero, too


def energy_loss(attributions: Tensor, masks: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
    """Return ``1 - sum(A+ M) / sum(A+ (1 - U))`` of every image, A+ the positive part of A.

    The Energy loss of Rao et al. 2023 (arXiv 2303.11932): one minus the energy-based pointing game. In [0, 1], lower is
    better, 0 = all positive attribution lies on the object; it does not depend on the scale of A. Without any positive
    attribution it is 1 and has no gradient. Departure: M may be fractional, where a mask was averaged to a coarser grid
    (the authors upsample A instead).

    Args:
        attributions: attributions A, (B, 1, h, w), signed.
        masks: masks M, (B, 1, h, w) in [0, 1].
        undefined: undefined share U of every cell, (B, 1, h, w) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    positive = attributions.relu()
    inside, everywhere = ((positive * m).flatten(1).sum(1) for m in (masks, ones_like(masks) - undefined))
    return 1 - inside / everywhere.clamp(min=EPSILON)


def l1_loss(attributions: Tensor, masks: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
    """Return ``mean |A+ / max(A+) - M|`` over the pixels of every image, A+ the positive part of ``A (1 - U)``.

    The L1 loss as Rao et al. 2023 (arXiv 2303.11932) compare it, after Gao et al. 2022 (GRADIA); the maximum is the
    image's own and gradients flow through it. In [0, 1], lower is better, 0 = attribution is uniform on the object and
    zero elsewhere. Without any positive attribution it is the mean of M and has no gradient. A cell counts in the mean
    as far as it is defined.

    Args:
        attributions: attributions A, (B, 1, h, w), signed.
        masks: masks M, (B, 1, h, w) in [0, 1].
        undefined: undefined share U of every cell, (B, 1, h, w) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    positive = attributions.relu() * (1 - undefined)
    scaled = positive / positive.amax((1, 2, 3), keepdim=True).clamp(min=EPSILON)
    counted = 1 - (ones_like(masks) * undefined).flatten(1).mean(1)
    return (scaled - masks).abs().flatten(1).mean(1) / counted.clamp(min=EPSILON)


def rrr_loss(gradients: Tensor, masks: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
    """Return ``sum ((1 - M - U) g)^2`` over the pixels and channels of every image, ``g = d sum_k log p_k / dx``.

    "Right for the right reasons", Ross, Hughes, Doshi-Velez 2017 (arXiv 1703.03717), their annotation A being
    ``1 - M - U``. At least 0, unbounded, lower is better, 0 = no background pixel moves any log-probability on average
    over the classes.

    Args:
        gradients: gradients g, (B, C, H, W).
        masks: masks M, (B, 1, H, W) in [0, 1].
        undefined: undefined share U of every cell, (B, 1, H, W) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    return ((1 - masks - undefined) * gradients).square().flatten(1).sum(1)


def gradient_penalty(gradients: Tensor) -> Tensor:
    """Return ``sum g^2`` over the pixels and channels of every image, ``g = d CE / dx`` of that image's cross-entropy.

    Double backpropagation (Drucker & LeCun 1992) as Ross & Doshi-Velez state it (arXiv 1711.09404), without the factor
    1/2 of their code. At least 0, unbounded, lower is better; it does not use the object.

    Args:
        gradients: gradients g, (B, C, H, W).

    Returns:
        The loss of every image, (B,).
    """
    return gradients.square().flatten(1).sum(1)


def grad_cam(gradients: Tensor, activations: Tensor) -> Tensor:
    """Return ``relu(sum_k w_k a_k)`` of every image, ``w_k`` the mean of channel k's gradient over the positions.

    Selvaraju 2017 (arXiv 1610.02391). With ``rrr_loss`` it is the Grad-CAM form of "right for the right reasons"
    (Schramowski et al. 2020, arXiv 2001.05371), here of the map without any scaling, at the layer's resolution.

    Args:
        gradients: gradients of the label's logit at the layer, (B, C, h, w).
        activations: the layer's output a, (B, C, h, w).

    Returns:
        The map (B, 1, h, w), at least 0.
    """
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()


def activation_distance(features: Tensor, others: Tensor) -> Tensor:
    """Return ``|a - a'|``, the L2 norm of the difference of two feature maps, of every image.

    ActDiff, Viviano et al. 2021 (arXiv 1910.00199): a of the image, a' of the image whose background is shuffled; their
    mean over all layers is here the norm at one. At least 0, unbounded, 0 = the background changes nothing. Where the
    maps are equal the gradient is 0.

    Args:
        features: features a, (B, ...).
        others: features a', (B, ...).

    Returns:
        The loss of every image, (B,).
    """
    return (features - others).flatten(1).norm(dim=1)


def divergence(answers: Tensor, others: Tensor) -> Tensor:
    """Return ``KL(p || q) = sum_k p_k (log p_k - log q_k)`` of every image; gradients flow through both.

    The second term of saliency-guided training, Ismail et al. 2021 (arXiv 2111.14338): p of the image, q of the image
    whose least salient pixels are noise. At least 0, unbounded, 0 = both have the same probabilities.

    Args:
        answers: logarithms of p, (B, K).
        others: logarithms of q, (B, K).

    Returns:
        The loss of every image, (B,).
    """
    return (answers.exp() * (answers - others)).sum(1)
