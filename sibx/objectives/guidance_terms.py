"""The guidance terms of other papers, as functions of maps and masks per image, and the GUIDANCE table.

The papers and their authors' code sum or average over images in different ways. Here every term is the mean over
images, like the cross-entropy, so that a weight does not depend on the batch size; published weights cannot be used
unchanged. Masks are the object's pixels where the papers use boxes or annotations. Each function names its other
departures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, ones_like, stack

from sibx._outputs import Criterion, Output, kind_of
from sibx.attribution.cotangents import potential

EPSILON = 1e-12  # keeps a quotient finite where no attribution is positive; its numerator is then zero, too


def energy_loss(attributions: Tensor, masks: Tensor) -> Tensor:
    """Return ``1 - sum(A+ M) / sum(A+)`` of every image, A+ the positive part of A.

    The Energy loss of Rao et al. 2023 (arXiv 2303.11932): one minus the energy-based pointing game. In [0, 1], lower is
    better, 0 = all positive attribution lies on the object; it does not depend on the scale of A. Without any positive
    attribution it is 1 and has no gradient. Departure: M may be fractional, where a mask was averaged to a coarser grid
    (the authors upsample A instead).

    Args:
        attributions: attributions A, (B, 1, h, w), signed.
        masks: masks M, (B, 1, h, w) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    positive = attributions.relu()
    inside, everywhere = ((positive * m).flatten(1).sum(1) for m in (masks, ones_like(masks)))
    return 1 - inside / everywhere.clamp(min=EPSILON)


def l1_loss(attributions: Tensor, masks: Tensor) -> Tensor:
    """Return ``mean |A+ / max(A+) - M|`` over the pixels of every image, A+ the positive part of A.

    The L1 loss as Rao et al. 2023 (arXiv 2303.11932) compare it, after Gao et al. 2022 (GRADIA); the maximum is the
    image's own and gradients flow through it. In [0, 1], lower is better, 0 = attribution is uniform on the object and
    zero elsewhere. Without any positive attribution it is the mean of M and has no gradient.

    Args:
        attributions: attributions A, (B, 1, h, w), signed.
        masks: masks M, (B, 1, h, w) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    positive = attributions.relu()
    scaled = positive / positive.amax((1, 2, 3), keepdim=True).clamp(min=EPSILON)
    return (scaled - masks).abs().flatten(1).mean(1)


def rrr_loss(gradients: Tensor, masks: Tensor) -> Tensor:
    """Return ``sum ((1 - M) g)^2`` over the pixels and channels of every image, ``g = d sum_k log p_k / dx``.

    "Right for the right reasons", Ross, Hughes, Doshi-Velez 2017 (arXiv 1703.03717), their annotation A being 1 - M. At
    least 0, unbounded, lower is better, 0 = no background pixel moves any log-probability on average over the classes.

    Args:
        gradients: gradients g, (B, C, H, W).
        masks: masks M, (B, 1, H, W) in [0, 1].

    Returns:
        The loss of every image, (B,).
    """
    return ((1 - masks) * gradients).square().flatten(1).sum(1)


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


def swap_backgrounds(images: Tensor, masks: Tensor) -> Tensor:
    """Paste every image's object on the previous image's background: ``x M + (1 - M) b``; the first gets the last's.

    b is the previous image with its own object painted over in its mean background color, so that no second object
    remains. That choice is ours. An image without background lends zero, the data set's mean after normalization.

    Args:
        images: images x, (B, C, H, W).
        masks: masks M, (B, 1, H, W) bool.

    Returns:
        The pasted images (B, C, H, W).
    """
    inside = masks.to(images.dtype)
    outside = 1 - inside
    pixels = outside.sum((2, 3), keepdim=True).clamp(min=1)  # at least 1: without a background pixel the sum is 0, too
    color = (images * outside).sum((2, 3), keepdim=True) / pixels
    background = images * outside + color * inside
    return images * inside + outside * background.roll(1, 0)


class Meaning(NamedTuple):
    """What the logits are, and what the images' labels ask of them."""

    output: Output
    criterion: Criterion


class Penalty(NamedTuple):
    """A scalar that is differentiated once, and the penalty on its gradient."""

    scalar: Callable[[Tensor, Tensor, "Meaning"], Tensor]  # (logits, labels, what they mean) -> a sum over images
    of_gradient: Callable[[Tensor, Tensor, Tensor], Tensor]  # (gradient, point where it was taken, masks) -> (B,)
    by_class: bool = False  # whether the scalar is one of the label's class


@dataclass(frozen=True, slots=True)
class GuidanceSpec:
    """One line of the GUIDANCE table.

    Attributes:
        name: key in the table.
        title: name shown in tables and figures.
        penalty: what is differentiated and penalized; None = no gradient, but the cross-entropy on swapped backgrounds.
        needs_masks: whether the term uses the objects' masks.
        at_layer: whether it is taken at a feature layer, with the masks averaged to its grid, instead of at the image.
        reference: publication that the term comes from.
    """

    name: str
    title: str
    penalty: Penalty | None
    needs_masks: bool
    at_layer: bool
    reference: str

    @property
    def by_class(self) -> bool:
        """Whether the term asks of one class, so that each of several labels gets its own mask."""
        return self.penalty is not None and self.penalty.by_class


def _label_logit(logits: Tensor, labels: Tensor, meaning: Meaning) -> Tensor:
    return potential(logits, "logit", labels, output=meaning.output)


def _all_log_probabilities(logits: Tensor, _: Tensor, meaning: Meaning) -> Tensor:
    """Of every class; an independent label is there, or it is not, which are two."""
    kind = kind_of(logits, meaning.output)
    if kind.log_probabilities is None:
        raise ValueError("`output` must be 'softmax' or 'sigmoid' for method='rrr', but got 'raw'.")
    scores = kind.class_scores(logits)
    sides = (scores,) if kind.exclusive else (scores, -scores)
    return stack([kind.log_probabilities(side).sum() for side in sides]).sum()


def _losses(logits: Tensor, labels: Tensor, meaning: Meaning) -> Tensor:
    """Of every image by itself."""
    return stack([meaning.criterion(z, y) for z, y in zip(logits.split(1), labels.split(1), strict=True)]).sum()


def _contributions(gradients: Tensor, point: Tensor) -> Tensor:
    return (gradients * point).sum(1, keepdim=True)


_ENERGY = Penalty(_label_logit, lambda g, x, m: energy_loss(_contributions(g, x), m), by_class=True)

GUIDANCE: dict[str, GuidanceSpec] = {
    spec.name: spec
    for spec in (
        GuidanceSpec(
            name="energy",
            title="Energy loss on Input x Gradient",
            penalty=_ENERGY,
            needs_masks=True,
            at_layer=False,
            reference="Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="l1",
            title="L1 loss on Input x Gradient",
            penalty=Penalty(_label_logit, lambda g, x, m: l1_loss(_contributions(g, x), m), by_class=True),
            needs_masks=True,
            at_layer=False,
            reference="Gao 2022, GRADIA; Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="rrr",
            title="Right for the right reasons",
            penalty=Penalty(_all_log_probabilities, lambda g, _, m: rrr_loss(g, m)),
            needs_masks=True,
            at_layer=False,
            reference="Ross 2017, arXiv 1703.03717",
        ),
        GuidanceSpec(
            name="energy-cam",
            title="Energy loss on a CAM",
            penalty=_ENERGY,
            needs_masks=True,
            at_layer=True,
            reference="Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="gradient-penalty",
            title="Gradient penalty",
            penalty=Penalty(_losses, lambda g, _, __: gradient_penalty(g)),
            needs_masks=False,
            at_layer=False,
            reference="Drucker 1992; Ross 2018, arXiv 1711.09404",
        ),
        GuidanceSpec(
            name="background-swap",
            title="Background swap",
            penalty=None,
            needs_masks=True,
            at_layer=False,
            reference="cross-entropy of every object on another image's background",
        ),
    )
}
