"""How a guidance term is computed from a batch: a penalty of gradients, or a second version of every image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sibx._checks import check_logits
from sibx._outputs import Criterion, Output, check_truth
from sibx.attribution.cotangents import differentiate
from sibx.models.alignment import Align, find_alignment
from sibx.models.differentiable import keep_way, twice_differentiable
from sibx.models.finding import resolve_layer
from sibx.models.layers import record
from sibx.models.layout import to_grid
from sibx.objectives.terms import Batch


class Meaning(NamedTuple):
    """What the logits are, and what the images' labels ask of them."""

    output: Output
    criterion: Criterion


class Place(NamedTuple):
    """Where a term is taken.

    Attributes:
        layer: dotted name of the layer for a term at a layer, else ``"input"``.
        align: how masks are brought to the layer's grid.
    """

    layer: str
    align: Align

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the layer by its name, nothing for the input."""
        return {} if self.layer == "input" else {self.layer: resolve_layer(model, self.layer)}


class Term(Protocol):
    """A guidance term: the logits of a batch's rows, and the mean over those that have an object, 0 if none does."""

    @property
    def least(self) -> int:
        """Smallest number of images of a batch."""
        ...

    @property
    def by_class(self) -> bool:
        """Whether the term asks of one class, so that each of several labels gets a row with its own mask."""
        ...

    def __call__(self, model: nn.Module, batch: Batch, place: Place, meaning: Meaning) -> tuple[Tensor, Tensor]:
        """Run the model."""
        ...


@dataclass(frozen=True, slots=True)
class Penalty:
    """A scalar that is differentiated once, and the penalty on its gradient.

    Attributes:
        scalar: function ``(logits, labels, what they mean)`` -> a sum over images.
        of_gradient: function ``(gradient, point where it was taken, masks on its grid, undefined shares there)`` ->
            (B,).
        by_class: whether the scalar is one of the label's class.
        least: smallest number of images of a batch.
    """

    scalar: Callable[[Tensor, Tensor, Meaning], Tensor]
    of_gradient: Callable[[Tensor, Tensor, Tensor, Tensor | float], Tensor]
    by_class: bool = False
    least: int = 1

    def __call__(self, model: nn.Module, batch: Batch, place: Place, meaning: Meaning) -> tuple[Tensor, Tensor]:
        """Return the logits, and the mean penalty."""
        assert batch.masks is not None
        modules, alignment = place.modules(model), find_alignment(model, place.layer, batch.images, place.align)
        leaf = batch.images.requires_grad_()
        with torch.enable_grad(), twice_differentiable(), record(model, modules, tokens=True) as activations:
            logits = model(leaf)
            _check_answers(logits, batch, meaning)
            keep_way(logits)
            point = activations.get(place.layer, leaf)
            labels = batch.labels if self.by_class else batch.learned(logits)[1]
            (gradients,) = differentiate(self.scalar(logits, labels, meaning), [point], create_graph=True)
        gradients, point = (to_grid(t, batch.size) for t in (gradients, point))
        grid = (point.shape[2], point.shape[3])
        pooled = alignment.pool(batch.masks.to(point.dtype), grid)
        undefined = 0.0 if batch.undefined is None else alignment.pool(batch.undefined.to(point.dtype), grid)
        rows = batch.masks.flatten(1).any(1)
        return logits, self.of_gradient(gradients, point, pooled, undefined)[rows].sum() / rows.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class Companion:
    """A second version of every image, and how far the model's answers to both are apart.

    An answer is the logits, or the features at the layer of a term that is taken at one.

    Attributes:
        change: function ``(model, images, labels, masks of what stays, output)`` -> the second versions, see
            ``sibx.objectives.companions``; undefined pixels stay as the object does.
        compare: function ``(answers to the images, answers to the second versions, what is true of these, what logits
            mean)`` -> the mean over images.
        by_class: whether the second version is one of the label's class.
        least: smallest number of images of a batch, and of those that take part.
    """

    change: Callable[[nn.Module, Tensor, Tensor, Tensor, Output], Tensor]
    compare: Callable[[Tensor, Tensor, Tensor, Meaning], Tensor]
    by_class: bool = False
    least: int = 1

    def __call__(self, model: nn.Module, batch: Batch, place: Place, meaning: Meaning) -> tuple[Tensor, Tensor]:
        """Return the logits of the images themselves, and the mean distance; both versions are one batch."""
        assert batch.masks is not None
        (rows,) = batch.masks.flatten(1).any(1).nonzero(as_tuple=True)
        rows = rows if len(rows) >= self.least else rows[:0]  # a single object, say, has no other background
        second = batch.images[rows]
        if len(rows):
            kept = batch.masks if batch.undefined is None else batch.masks | batch.undefined
            second = self.change(model, second, batch.labels[rows], kept[rows], meaning.output)
        with torch.enable_grad(), record(model, place.modules(model), tokens=True) as activations:
            logits = model(torch.cat([batch.images, second]))
        check_logits(logits, len(batch.images) + len(rows))
        answers = activations.get(place.layer, logits)
        sizes = [len(batch.images), len(rows)]
        (clean, _), (answer, other) = logits.split(sizes), answers.split(sizes)
        _check_answers(clean, batch, meaning)
        return clean, self.compare(answer[rows], other, batch.alone()[rows], meaning) if len(rows) else other.sum()


def _check_answers(logits: Tensor, batch: Batch, meaning: Meaning) -> None:
    check_logits(logits, len(batch.images))
    learned, truth = batch.learned(logits)
    check_truth(truth, learned, meaning.output)
