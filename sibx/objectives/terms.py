"""What the S-IB loss is made of, and how terms, weights and scales become the total."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._for_notebooks import html_of_terms
from sibx.models.alignment import Alignment
from sibx.objectives.background import Contrast, Fraction, Variance
from sibx.objectives.config import SIBConfig
from sibx.objectives.foreground import HSIC
from sibx.runs.ranks import gather_rows, world_size


class LossTerms(NamedTuple):
    """The loss and what it is made of; terms are sums over layers, with the layers' weights but not their own.

    Scalars belong to the global batch; logits, mask and map belong to the images of this rank. With several labels per
    image mask and map have a row for each image and class present (and one for an image without any).

    Attributes:
        total: the scalar to minimize.
        cross_entropy: cross-entropy of the unchanged images.
        foreground: foreground term, HSIC or CKA of R M and x M; larger is better.
        background: background term, of R outside M; smaller is better.
        background_swap: cross-entropy with swapped backgrounds, 0 if ``swap`` is 0.
        logits: logits (B, K), detached.
        soft_mask: mask M at the last of the layers, (B, 1, h, w), detached.
        vjp: VJP map R at the last of the layers, (B, C, h, w), detached.
        saturated: number of images whose R is exactly zero at the last of the layers: the cotangent has vanished there
            (v = p of a saturated softmax), and a small background term says nothing.
        positive_share: ``sum(c+) / sum(|c|)`` of an image's contributions at the last feature layer, in [0, 1], mean
            over the images where they are not all zero; NaN if ``"input"`` is the only layer or all are zero. Below 1/2
            they on balance speak against the class: a shift-sensitive cotangent (``logit``) can lower ``sum(|c|)`` by
            turning signs around.
    """

    total: Tensor
    cross_entropy: Tensor
    foreground: Tensor
    background: Tensor
    background_swap: Tensor
    logits: Tensor
    soft_mask: Tensor
    vjp: Tensor
    saturated: Tensor
    positive_share: Tensor

    def _repr_html_(self) -> str:
        """Return a table of the terms, which notebooks show."""
        return html_of_terms(self._asdict())


class Point(NamedTuple):
    """Where a VJP is taken: the image or a layer's output in the graph, the layer's weight, and its alignment."""

    tensor: Tensor
    weight: float
    alignment: Alignment


class LayerTerms(NamedTuple):
    """The S-IB terms of one layer, and the layer's weight; a term that the objective does not have is None."""

    weight: float
    foreground: Tensor | None
    background: Tensor | None


class Parts(NamedTuple):
    """What one pass of the model gives, in the graph.

    Attributes:
        cross_entropy: cross-entropy of the unchanged images.
        blank: cross-entropy of logits that are all zero, which know nothing; detached.
        layers: terms of the layers, by name; empty if too few images have an object.
        background_swap: cross-entropy with swapped backgrounds; None if it has no weight, or no image has an object.
        logits: logits (B, K).
        soft_mask: mask M at the last of the layers, (B, 1, h, w).
        vjp: VJP map R at the last of the layers, (B, C, h, w).
        positive_share: share of an image's contributions at the last feature layer that is positive, in [0, 1] or NaN;
            None when only ``"input"`` is named.
    """

    cross_entropy: Tensor
    blank: Tensor
    layers: dict[str, LayerTerms]
    background_swap: Tensor | None
    logits: Tensor
    soft_mask: Tensor
    vjp: Tensor
    positive_share: Tensor | None


class Batch(NamedTuple):
    """What a loss is computed from, in rows of one image, one class and one mask each.

    Attributes:
        images: images (B, C, H, W).
        labels: class indices (B,).
        masks: masks (B, 1, H, W) bool, or None.
        truth: all labels (N, K) of the N images, where an image may have several (see ``lay_out``); None = ``labels``.
        first: the first row of each of these images, (N,); None = every image has one row.
        undefined: like masks, True where it is not known whether a pixel is background; None = nowhere.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    truth: Tensor | None = None
    first: Tensor | None = None
    undefined: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Size (H, W) of the images."""
        return self.images.shape[2], self.images.shape[3]

    def recordable(self) -> "Batch":
        """Return the batch with copies of tensors made in inference mode, which autograd does not accept."""
        made = {k: t.clone() for k, t in self._asdict().items() if t is not None and t.is_inference()}
        return self._replace(**made)

    def told_apart(self) -> "Batch":
        """Return the batch with undefined pixels that are no object: where a mask says so, a pixel is."""
        if self.masks is None or self.undefined is None:
            return self
        return self._replace(undefined=self.undefined & ~self.masks)

    def learned(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the images, each once, and what is true of them."""
        return logits if self.first is None else logits[self.first], self.labels if self.truth is None else self.truth

    def alone(self) -> Tensor:
        """Return what is true of every row where only its mask is seen: of its other classes nothing is known."""
        if self.truth is None or self.first is None:
            return self.labels if self.truth is None else self.truth
        starts = torch.zeros_like(self.labels).index_fill_(0, self.first, 1)
        truth = self.truth[starts.cumsum(0) - 1]
        own = torch.zeros_like(truth, dtype=torch.bool).scatter_(1, self.labels.unsqueeze(1), True)
        return truth.masked_fill((truth == 1) & ~own, torch.nan)

    def with_object(self) -> Tensor:
        """Return the indices of the global batch's images that have an object, of all without masks."""
        if self.masks is None and world_size() == 1:  # nothing to look at, so nothing to wait for
            return torch.arange(len(self.images), device=self.images.device)
        objects = torch.ones_like(self.labels) if self.masks is None else self.masks.flatten(1).sum(1)
        return gather_rows(objects).nonzero().squeeze(1)

    def with_background(self) -> Tensor:
        """Return whether each image has a pixel that is neither object nor undefined, (B,) bool."""
        assert self.masks is not None
        kept = self.masks if self.undefined is None else self.masks | self.undefined
        return ~kept.flatten(1).all(1)


def share_of_positive(contributions: Tensor) -> Tensor:
    """Return the positive share of an image's summed ``|c|``, mean over the global batch, for c (B, 1, h, w).

    Of sums over the batch it would be the share of the few images that are not fitted, where the labels' slope is
    steep, and where contributions speak against the class as they should.
    """
    sums = torch.stack([contributions.clamp(min=0).flatten(1).sum(1), contributions.abs().flatten(1).sum(1)], 1)
    positive, everything = gather_rows(sums).unbind(1)
    return (positive / everything).nanmean()  # 0 / 0: no contributions


def term_weights(config: SIBConfig) -> dict[str, float]:
    """Return the weight of every term in the total, by name, the cross-entropy first."""
    weights = {"cross_entropy": 1.0}
    for layer, weight in config.weights.items():
        weights |= {_name(config, kind, layer): weight * part.weight for kind, part in _parts(config).items()}
    return weights | ({"background_swap": config.swap} if config.swap > 0 else {})


def term_values(config: SIBConfig, parts: Parts) -> dict[str, Tensor]:
    """Return the scalar that the weight of every term multiplies, by name; smaller is better."""
    values = {"cross_entropy": parts.cross_entropy}
    for layer, terms in parts.layers.items():
        values |= {_name(config, kind, layer): value for kind, value in _shaped(config, terms).items()}
    return values if parts.background_swap is None else values | {"background_swap": parts.background_swap}


def weighted_total(config: SIBConfig, parts: Parts, factors: Mapping[str, Tensor]) -> Tensor:
    """Return the scalar to minimize; a term without a factor has factor 1."""
    total = parts.cross_entropy * factors.get("cross_entropy", 1.0)
    for layer, terms in parts.layers.items():
        weights = {
            kind: part.weight * factors.get(_name(config, kind, layer), 1.0) for kind, part in _parts(config).items()
        }
        total = total + terms.weight * sum(weights[kind] * value for kind, value in _shaped(config, terms).items())
    if parts.background_swap is not None:
        total = total + config.swap * factors.get("background_swap", 1.0) * parts.background_swap
    return total


def fit_of(parts: Parts) -> Tensor:
    """Return how far the labels are fitted: 0 = not better than logits of zero, 1 = perfectly; detached."""
    fit = 1 - parts.cross_entropy.detach() / parts.blank
    return torch.where(parts.blank > 0, fit.clamp(min=0), 0.0)


def _parts(config: SIBConfig) -> dict[str, HSIC | Variance | Fraction | Contrast]:
    """Return the foreground and background terms that the objective has, by kind."""
    parts = {"foreground": config.foreground, "background": config.background}
    return {kind: part for kind, part in parts.items() if part is not None}


def _name(config: SIBConfig, kind: str, layer: str) -> str:
    """Return ``foreground``, or with several layers ``foreground[features.13]``."""
    return f"{kind}[{layer}]" if len(config.weights) > 1 else kind


def _shaped(config: SIBConfig, terms: LayerTerms) -> dict[str, Tensor]:
    """Return the terms of a layer in the objective's form, by kind; smaller is better."""
    lost = None if terms.foreground is None else -terms.foreground
    there = {
        kind: value for kind, value in (("background", terms.background), ("foreground", lost)) if value is not None
    }
    return there if config.form == "linear" else {kind: value.exp() for kind, value in there.items()}
