"""What a guidance loss adds to the cross-entropy: the GUIDANCE table.

To add one: its formula in ``sibx.objectives.guidance_terms`` or its second version in ``sibx.objectives.companions``,
and a line in GUIDANCE.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, cat, nn, stack

from sibx._outputs import Output, kind_of
from sibx.attribution.cotangents import potential
from sibx.objectives.companions import add_noise, hide_least_salient, shuffle_background, swap_backgrounds
from sibx.objectives.guidance_parts import Companion, Meaning, Penalty, Term
from sibx.objectives.guidance_terms import (
    activation_distance,
    divergence,
    energy_loss,
    grad_cam,
    gradient_penalty,
    l1_loss,
    rrr_loss,
)


@dataclass(frozen=True, slots=True)
class GuidanceSpec:
    """One line of the GUIDANCE table.

    Attributes:
        name: key in the table.
        title: name shown in tables and figures.
        term: what is added to the cross-entropy.
        needs_masks: whether the term uses the objects' masks.
        at_layer: whether it is taken at a feature layer instead of at the image or at the logits.
        reference: publication that the term comes from.
    """

    name: str
    title: str
    term: Term
    needs_masks: bool
    at_layer: bool
    reference: str


def _label_logit(logits: Tensor, labels: Tensor, meaning: Meaning) -> Tensor:
    return potential(logits, "logit", labels, output=meaning.output)


def _log_probabilities(logits: Tensor, meaning: Meaning, method: str) -> Tensor:
    """Of every class; an independent label is there, or it is not, which are two."""
    kind = kind_of(logits, meaning.output)
    if kind.log_probabilities is None:
        raise ValueError(f"`output` must be 'softmax' or 'sigmoid' for method={method!r}, but got 'raw'.")
    scores = kind.class_scores(logits)
    return kind.log_probabilities(scores if kind.exclusive else cat([scores, -scores], 1))


def _divergence(logits: Tensor, others: Tensor, _: Tensor, meaning: Meaning) -> Tensor:
    return divergence(*(_log_probabilities(z, meaning, "saliency-guided") for z in (logits, others))).mean()


def _losses(logits: Tensor, labels: Tensor, meaning: Meaning) -> Tensor:
    """Of every image by itself."""
    return stack([meaning.criterion(z, y) for z, y in zip(logits.split(1), labels.split(1), strict=True)]).sum()


def _loss(_: Tensor, logits: Tensor, labels: Tensor, meaning: Meaning) -> Tensor:
    return meaning.criterion(logits, labels)


def _contributions(gradients: Tensor, point: Tensor) -> Tensor:
    return (gradients * point).sum(1, keepdim=True)


def _by_masks(
    change: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[nn.Module, Tensor, Tensor, Tensor, Output], Tensor]:
    return lambda _, images, __, masks, ___: change(images, masks)


_ENERGY = Penalty(_label_logit, lambda g, x, *m: energy_loss(_contributions(g, x), *m), by_class=True)

GUIDANCE: dict[str, GuidanceSpec] = {
    spec.name: spec
    for spec in (
        GuidanceSpec(
            name="energy",
            title="Energy loss on Input x Gradient",
            term=_ENERGY,
            needs_masks=True,
            at_layer=False,
            reference="Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="l1",
            title="L1 loss on Input x Gradient",
            term=Penalty(_label_logit, lambda g, x, *m: l1_loss(_contributions(g, x), *m), by_class=True),
            needs_masks=True,
            at_layer=False,
            reference="Gao 2022, GRADIA; Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="rrr",
            title="Right for the right reasons",
            term=Penalty(
                lambda z, _, meaning: _log_probabilities(z, meaning, "rrr").sum(), lambda g, _, *m: rrr_loss(g, *m)
            ),
            needs_masks=True,
            at_layer=False,
            reference="Ross 2017, arXiv 1703.03717",
        ),
        GuidanceSpec(
            name="rrr-cam",
            title="Right for the right reasons on Grad-CAM",
            term=Penalty(_label_logit, lambda g, x, *m: rrr_loss(grad_cam(g, x), *m), by_class=True),
            needs_masks=True,
            at_layer=True,
            reference="Schramowski 2020, arXiv 2001.05371",
        ),
        GuidanceSpec(
            name="energy-cam",
            title="Energy loss on a CAM",
            term=_ENERGY,
            needs_masks=True,
            at_layer=True,
            reference="Rao 2023, arXiv 2303.11932",
        ),
        GuidanceSpec(
            name="gradient-penalty",
            title="Gradient penalty",
            term=Penalty(_losses, lambda g, *_: gradient_penalty(g)),
            needs_masks=False,
            at_layer=False,
            reference="Drucker 1992; Ross 2018, arXiv 1711.09404",
        ),
        GuidanceSpec(
            name="background-swap",
            title="Background swap",
            term=Companion(_by_masks(swap_backgrounds), _loss, least=2),
            needs_masks=True,
            at_layer=False,
            reference="cross-entropy of every object on another image's background",
        ),
        GuidanceSpec(
            name="background-noise",
            title="Noise in the background",
            term=Companion(_by_masks(add_noise), _loss),
            needs_masks=True,
            at_layer=False,
            reference="after Singla 2022, arXiv 2203.15566",
        ),
        GuidanceSpec(
            name="actdiff",
            title="ActDiff",
            term=Companion(_by_masks(shuffle_background), lambda a, b, *_: activation_distance(a, b).mean()),
            needs_masks=True,
            at_layer=True,
            reference="Viviano 2021, arXiv 1910.00199",
        ),
        GuidanceSpec(
            name="saliency-guided",
            title="Saliency-guided training",
            term=Companion(
                lambda model, x, y, _, output: hide_least_salient(model, x, y, output), _divergence, by_class=True
            ),
            needs_masks=False,
            at_layer=False,
            reference="Ismail 2021, arXiv 2111.14338",
        ),
    )
}
