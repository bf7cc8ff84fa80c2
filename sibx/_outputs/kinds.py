"""The kinds of output: how scores become scores of classes and probabilities, and what is learned of them.

To add one: an entry in KINDS, and its word in ``Output``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, require
from sibx._outputs.weighting import PLAIN, Weighting, weights_of_classes, weights_of_positives
from sibx._precise import precise

# ``softmax``: K classes that exclude each other. ``sigmoid``: K independent labels; K = 1 is a binary classifier with
# the classes 0 and 1. ``raw``: scores without a probability. ``auto``: ``sigmoid`` for K = 1, else ``softmax``.
Output = Literal["auto", "softmax", "sigmoid", "raw"]
Criterion = Callable[[Tensor, Tensor], Tensor]  # (scores (B, K), labels) -> a scalar to minimize


@dataclass(frozen=True, slots=True)
class Kind:
    """What the scores (B, K) of a model say about its C classes.

    Attributes:
        name: what errors call it.
        class_scores: scores (B, K) -> scores of the classes (B, C), which methods explain; the largest is predicted.
        probabilities: scores of the classes (B, C) -> their probabilities; for ``raw`` the scores themselves.
        log_probabilities: the same for their logarithms; None = there are none.
        margin: (scores of the classes, labels (B,)) -> how far each label's score is below what it has to beat, (B,);
            None = no label is right.
        criterion: (scores (B, K), labels, how they count) -> the mean loss, a scalar; None = there is no usual one.
        exclusive: whether exactly one class is right, so that evidence for all of them is evidence for none.
    """

    name: str
    class_scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    log_probabilities: Callable[[Tensor], Tensor] | None
    margin: Callable[[Tensor, Tensor], Tensor] | None
    criterion: Callable[[Tensor, Tensor, Weighting], Tensor] | None
    exclusive: bool


def _same(scores: Tensor) -> Tensor:
    return scores


def _two_sides(scores: Tensor) -> Tensor:
    return torch.cat([-scores, scores], 1)


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(1)


def _log_softmax(scores: Tensor) -> Tensor:
    return scores.log_softmax(1)


def _below_others(scores: Tensor, labels: Tensor) -> Tensor:
    others = scores.scatter(1, labels.unsqueeze(1), -torch.inf).logsumexp(1)
    return others - pick(scores, labels)


def _below_zero(scores: Tensor, labels: Tensor) -> Tensor:
    return -pick(scores, labels)


def _cross_entropy(scores: Tensor, labels: Tensor, given: Weighting = PLAIN) -> Tensor:
    weights = weights_of_classes(given, scores, scores.shape[1])
    return F.cross_entropy(scores, labels, weights, label_smoothing=given.label_smoothing)


def _binary_loss(scores: Tensor, labels: Tensor, given: Weighting = PLAIN) -> Tensor:
    if given.class_weights is not None:  # the scores of both classes, whose softmax is the sigmoid
        return _cross_entropy(torch.cat([torch.zeros_like(scores), scores], 1), labels, given)
    positive, truth = weights_of_positives(given, scores), _smooth(labels.to(scores.dtype), given)
    return F.binary_cross_entropy_with_logits(scores.squeeze(1), truth, pos_weight=positive)


def _labels_loss(scores: Tensor, labels: Tensor, given: Weighting = PLAIN) -> Tensor:
    rule = "be None for several labels per image, whose weight is pos_weight"
    require(given.class_weights is None, "class_weights", rule, given.class_weights)
    known, positive = ~labels.isnan(), weights_of_positives(given, scores)
    truth = _smooth(labels.nan_to_num().to(scores.dtype), given)
    losses = F.binary_cross_entropy_with_logits(scores, truth, reduction="none", pos_weight=positive)
    return (losses * known).sum() / known.sum().clamp(min=1)  # without a known label there is nothing to learn: 0


def _smooth(truth: Tensor, given: Weighting) -> Tensor:
    return truth if given.label_smoothing == 0 else truth.lerp(torch.full_like(truth, 0.5), given.label_smoothing)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="softmax",
            class_scores=_same,
            probabilities=_softmax,
            log_probabilities=_log_softmax,
            margin=_below_others,
            criterion=_cross_entropy,
            exclusive=True,
        ),
        Kind(
            name="binary",
            class_scores=_two_sides,
            probabilities=torch.sigmoid,
            log_probabilities=F.logsigmoid,
            margin=_below_zero,
            criterion=_binary_loss,
            exclusive=True,
        ),
        Kind(
            name="sigmoid",
            class_scores=_same,
            probabilities=torch.sigmoid,
            log_probabilities=F.logsigmoid,
            margin=_below_zero,
            criterion=_labels_loss,
            exclusive=False,
        ),
        Kind(
            name="raw",
            class_scores=_same,
            probabilities=_same,
            log_probabilities=None,
            margin=None,
            criterion=None,
            exclusive=False,
        ),
    )
}


def check_output(output: object) -> None:
    """Require a word of ``Output``."""
    check_choice("output", output, get_args(Output))


def kind_of(scores: Tensor, output: Output = "auto") -> Kind:
    """Return what scores (B, K) are.

    Args:
        scores: scores (B, K) of a model.
        output: what they are called.

    Raises:
        ValueError: an unknown word, or ``softmax`` of a single score.
    """
    check_output(output)
    single = scores.shape[1] == 1
    require(not (single and output == "softmax"), "output", "be 'sigmoid' or 'raw' for a model with one score", output)
    if output == "auto":
        return KINDS["binary" if single else "softmax"]
    return KINDS["binary" if single and output == "sigmoid" else output]


def by_class(scores: Tensor, output: Output = "auto") -> Tensor:
    """Return the scores of the classes (B, C): ``(-z, z)`` of a binary model's z (B, 1), else the scores themselves.

    Args:
        scores: scores (B, K) of a model.
        output: what they are.

    Raises:
        ValueError: an unknown word, or ``softmax`` of a single score.

    Example:
        >>> by_class(torch.tensor([[3.0]]))
        tensor([[-3.,  3.]])
    """
    return kind_of(scores, output).class_scores(scores)


def probabilities(scores: Tensor, output: Output = "auto") -> Tensor:
    """Return the probabilities of the classes, (B, C) float64; for ``raw`` the scores as they are.

    Softmax over K classes; ``(1 - sigmoid(z), sigmoid(z))`` of a binary model; the sigmoid of each of several labels.

    Args:
        scores: scores (B, K) of a model.
        output: what they are.

    Raises:
        ValueError: an unknown word, or ``softmax`` of a single score.

    Example:
        >>> probabilities(torch.tensor([[0.0]]), "sigmoid")
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    kind = kind_of(scores, output)
    return kind.probabilities(kind.class_scores(precise(scores)))


def pick(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the score of every row's class, (B,)."""
    return scores.gather(1, labels.to(scores.device).unsqueeze(1)).squeeze(1)
