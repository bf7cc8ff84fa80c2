"""Terms that ``SIBConfig`` has no part for, each in a loss that is otherwise the recommended one.

- ``invariant``: every image is seen a second time, its object on the picture before it in the batch. R inside the
  object shall be the same in both, and in both nothing of it shall lie outside.
- ``other-class``: the fraction of the label's R that lies outside, less that of the R of the class that is second in
  score. What both classes share, a habit of looking at the middle among it, does not count.
- ``conditional``: the recommended term, and the dependence of R and x inside the object *given the label*: it rises.

``TERMS`` names them; ``further_ahead.py`` tries them. ``fraction`` is the recommended term itself, which a test
compares with ``SIBLoss``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx.models import Alignment, find_alignment, record, resolve_layer
from sibx.objectives import Fraction, Share, SIBConfig, cka, contribution


@dataclass(frozen=True, slots=True)
class Seen:
    """What a term sees of one pass of the model.

    Attributes:
        logits: logits (B, K).
        activations: feature maps (B, C, h, w) in the graph of the logits, by layer.
        alignments: where their units lie on the image, by layer.
    """

    logits: Tensor
    activations: Mapping[str, Tensor]
    alignments: Mapping[str, Alignment]

    def vjps(self, scalar: Tensor) -> dict[str, Tensor]:
        """Return the gradient (B, C, h, w) of a sum over images at every layer."""
        maps = torch.autograd.grad(scalar, list(self.activations.values()), create_graph=True)
        return dict(zip(self.activations, maps, strict=True))

    def contributions(self, scores: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Return what every position contributes to each image's class, (B, 1, h, w), at every layer."""
        vjps = self.vjps(scores.gather(1, classes.unsqueeze(1)).sum())
        return {name: contribution(vjp, self.activations[name]) for name, vjp in vjps.items()}

    def pool(self, images: Tensor) -> dict[str, Tensor]:
        """Return images or masks (B, C, H, W) on the grid of every layer."""
        return {
            name: self.alignments[name].pool(images.to(a.dtype), (a.shape[2], a.shape[3]))
            for name, a in self.activations.items()
        }


Look = Callable[[Tensor], Seen]  # runs the model
# (look, images, labels, masks) -> logits of the images, and the term of every layer by name
Term = Callable[[Look, Tensor, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A loss for ``fine_tune``: cross-entropy, and a term whose pull ``Share`` bounds as in the recommended loss.

    Attributes:
        term: the term.
        config: the objective whose layers, masks and share are taken.
    """

    term: Term
    config: SIBConfig

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the loss, its terms, and the logits."""
        alignments = {name: find_alignment(model, name, images) for name in self.config.weights}
        modules = {name: resolve_layer(model, name, images) for name in alignments}

        def look(images: Tensor) -> Seen:
            with record(model, modules) as activations:
                return Seen(model(images), activations, alignments)

        with torch.enable_grad():
            logits, terms = self.term(look, images, labels, self.config.masks.arrange(masks))
        assert isinstance(self.config.balance, Share)
        loss, most = F.cross_entropy(logits, labels), math.log(logits.shape[1])
        values = {"cross_entropy": loss} | terms
        factors = self.config.balance.factors(
            values,
            {"cross_entropy": 1.0} | dict(self.config.weights),
            [p for p in model.parameters() if p.requires_grad],
            fit=(1 - loss.detach() / most).clamp(min=0),
            learn=True,
        )
        weighted = [factors[name] * self.config.weights.get(name, 1.0) * value for name, value in values.items()]
        return values | {"total": torch.stack(weighted).sum(), "logits": logits}


def fraction(look: Look, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The recommended term: the fraction of R outside the mask."""
    seen = look(images)
    shown = seen.contributions(seen.logits.double().log_softmax(1), labels)
    return seen.logits, {name: outside(shown[name], m).mean() for name, m in seen.pool(masks).items()}


def invariant(look: Look, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """``(F(x) + F(x')) / 2 + 1 - cos(c M, c' M)``, F the fraction outside, c' of the object on another picture."""
    seen = look(torch.cat([images, torch.where(masks, images, images.roll(1, 0))]))
    shown, twice = seen.contributions(seen.logits.double().log_softmax(1), labels.repeat(2)), masks.repeat(2, 1, 1, 1)
    terms = {}
    for name, m in seen.pool(twice).items():
        clean, moved = (shown[name] * m).flatten(1).chunk(2)
        terms[name] = outside(shown[name], m).mean() + 1 - F.cosine_similarity(clean, moved).mean()
    return seen.logits[: len(images)], terms


def other_class(look: Look, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """``F_y - F_k``, F the fraction of R outside, y the label, k the other class of the highest score.

    Of centered logits: with the log-probability of a fitted image, R of k is that of y with its sign turned.
    """
    seen = look(images)
    others = seen.logits.detach().scatter(1, labels.unsqueeze(1), -math.inf).argmax(1)
    scores = seen.logits - seen.logits.mean(1, keepdim=True)
    own, other = (seen.contributions(scores, classes) for classes in (labels, others))
    pooled = seen.pool(masks)
    return seen.logits, {name: (outside(own[name], m) - outside(other[name], m)).mean() for name, m in pooled.items()}


def conditional(look: Look, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """``F - CKA(R M, x M | y)``: the rows of every class are centered by themselves.

    HSIC of such rows is the squared norm of the conditional cross-covariance given the label (Fukumizu et al. 2007),
    with linear kernels; CKA is without its scale.
    """
    seen = look(images)
    vjps = seen.vjps(seen.logits.double().log_softmax(1).gather(1, labels.unsqueeze(1)).sum())
    pooled, pictures, terms = seen.pool(masks), seen.pool(images), {}
    for name, m in pooled.items():
        inside = (within_class(F.normalize((a * m).flatten(1)), labels) for a in (vjps[name], pictures[name]))
        terms[name] = outside(contribution(vjps[name], seen.activations[name]), m).mean() - cka(*inside)
    return seen.logits, terms


def outside(contributions: Tensor, mask: Tensor) -> Tensor:
    """Return the fraction of ``|c|`` outside the mask, (B,)."""
    return Fraction()(contributions, contributions.abs(), mask)


def within_class(rows: Tensor, labels: Tensor) -> Tensor:
    """Return rows (B, D) less the mean of their class."""
    same = (labels.unsqueeze(1) == labels).to(rows.dtype)
    return rows - same / same.sum(1, keepdim=True) @ rows


TERMS: Mapping[str, Term] = {"invariant": invariant, "other-class": other_class, "conditional": conditional}
