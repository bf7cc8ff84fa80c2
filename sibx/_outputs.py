"""What the numbers of a model are: the one place where scores become classes, probabilities, losses and what is right.

To add a kind of output: one entry in KINDS, and its word in ``Output``.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, check_labels, check_logits, require
from sibx._precise import precise

# ``softmax``: K classes that exclude each other. ``sigmoid``: K independent labels; K = 1 is a binary classifier with
# the classes 0 and 1. ``raw``: scores without a probability. ``auto``: ``sigmoid`` for K = 1, else ``softmax``.
Output = Literal["auto", "softmax", "sigmoid", "raw"]
Criterion = Callable[[Tensor, Tensor], Tensor]  # (scores (B, K), labels) -> a scalar to minimize

CLOSE = 1e-3  # how far from 1 rounding may leave a sum of probabilities
SPREAD, ENOUGH = 0.5, 4  # of values between 0 and 1: what takes so much of the interval is no accident of some logits


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
        criterion: (scores (B, K), labels) -> the mean loss, a scalar; None = there is no usual one.
        exclusive: whether exactly one class is right, so that evidence for all of them is evidence for none.
    """

    name: str
    class_scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    log_probabilities: Callable[[Tensor], Tensor] | None
    margin: Callable[[Tensor, Tensor], Tensor] | None
    criterion: Criterion | None
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
    return others - _pick(scores, labels)


def _below_zero(scores: Tensor, labels: Tensor) -> Tensor:
    return -_pick(scores, labels)


def _binary_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores.squeeze(1), labels.to(scores.dtype))


def _labels_loss(scores: Tensor, labels: Tensor) -> Tensor:
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(scores, labels.nan_to_num().to(scores.dtype), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)  # without a known label there is nothing to learn: 0


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="softmax",
            class_scores=_same,
            probabilities=_softmax,
            log_probabilities=_log_softmax,
            margin=_below_others,
            criterion=F.cross_entropy,
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


def hits(scores: Tensor, labels: Tensor, output: Output = "auto") -> Tensor:
    """Return 1 for every image whose label is predicted, else 0 (also where a score is NaN).

    Predicted is the class with the largest score; of several labels, which do not exclude each other, each whose
    probability is above 1/2. This is the only place that decides what is right; every accuracy is a mean of it.

    Args:
        scores: scores (B, K) of a model.
        labels: class indices (B,); or all labels (B, K) of every image, 0, 1 or NaN = unknown.
        output: what the scores are.

    Returns:
        (B,) float64; with all labels the share of the known ones that are right, NaN where none is known.

    Raises:
        ValueError: scores that are not (B, K), labels outside their classes, or ``raw``, where nothing is right.

    Example:
        >>> hits(torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1]))
        tensor([1., 0.], dtype=torch.float64)
    """
    check_logits(scores, len(labels))
    kind = kind_of(scores, output)
    require(kind.margin is not None, "output", "be 'softmax' or 'sigmoid' for an accuracy", output)
    of_classes = kind.class_scores(scores)
    if labels.ndim == 2:
        return _share_of_hits(scores, labels, output)
    check_labels(labels, of_classes)
    right = of_classes.argmax(1) == labels if kind.exclusive else _pick(of_classes, labels) > 0
    return precise(right & ~scores.isnan().any(1))


def _share_of_hits(scores: Tensor, labels: Tensor, output: Output) -> Tensor:
    check_truth(labels, scores, output)
    known = ~labels.isnan()
    right = ((scores > 0) == (labels > 0.5)) & known & ~scores.isnan()
    return precise(right).sum(1) / known.sum(1)


def predicted(scores: Tensor, output: Output = "auto") -> Tensor:
    """Return the class with the largest score of every image, (B,) int64; of ``raw`` scores the place of the largest.

    Where a score is NaN nothing is predicted, and 0 stands there.

    Args:
        scores: scores (B, K) of a model.
        output: what they are.

    Raises:
        ValueError: an unknown word, or ``softmax`` of a single score.
    """
    of_classes = by_class(scores, output)
    return of_classes.masked_fill(of_classes.isnan().any(1, keepdim=True), 0).argmax(1)


def predicted_beside(scores: Tensor, labels: Tensor, output: Output = "auto") -> Tensor:
    """Return what is predicted where the label is one of several: it, if ``hits`` says so, else the best other class.

    Of classes that exclude each other that is what is ``predicted``.

    Args:
        scores: scores (B, K) of a model.
        labels: class indices (B,); those that the model does not have are not predicted.
        output: what the scores are.
    """
    found = predicted(scores, output)
    if kind_of(scores, output).exclusive or output == "raw":
        return found
    labels = labels.to(scores.device)
    own = F.one_hot(labels.clamp(max=scores.shape[1]), scores.shape[1] + 1)[:, :-1].bool()
    there = (scores.nan_to_num() * own > 0).any(1)
    others = scores.nan_to_num().masked_fill(own, -torch.inf).argmax(1)
    return torch.where(there, labels, others)


def criterion_for(output: Output = "auto") -> Criterion:
    """Return the usual loss: cross-entropy, or the binary one of one or several labels without the unknown (NaN).

    Args:
        output: what the scores are.

    Raises:
        ValueError: ``raw``, for which there is none.

    Example:
        >>> criterion_for("sigmoid")(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, float("nan")]]))
        tensor(0.6931)
    """
    usual = usual_criterion(output)

    def criterion(scores: Tensor, labels: Tensor) -> Tensor:
        check_truth(labels, scores, output)
        return usual(scores, labels)

    return criterion


def scores_for(classes: int, output: Output, *, several: bool = False) -> int:
    """Return how many scores a model of a data set needs: one for two classes by a sigmoid, else one per class.

    Args:
        classes: number of classes of the data set.
        output: what the scores are.
        several: whether an image may have several of the classes, or none.

    Raises:
        ValueError: ``sigmoid`` for more than two classes of which each image has one.

    Example:
        >>> scores_for(2, "sigmoid"), scores_for(2, "auto"), scores_for(20, "sigmoid", several=True)
        (1, 2, 20)
    """
    if output != "sigmoid" or several:
        return classes
    rule = "be 'softmax' (or 'auto') for more than two classes of which each image has one"
    require(classes == 2, "output", rule, output)
    return 1


def usual_criterion(output: Output) -> Criterion:
    """Return the usual loss for labels that have been checked: the check waits for the device."""
    require(output != "raw", "criterion", "be given for output='raw', which has no usual loss", None)

    def criterion(scores: Tensor, labels: Tensor) -> Tensor:
        found = kind_of(scores, output).criterion
        assert found is not None
        return found(scores, labels)

    return criterion


def check_truth(labels: Tensor, scores: Tensor, output: Output = "auto") -> None:
    """Require class indices (B,), or for several labels (B, K) floating point, each 0, 1 or NaN (unknown).

    What is true of ``raw`` scores only their criterion knows.

    Args:
        labels: what is checked.
        scores: scores (B, K) of a model.
        output: what they are.

    Raises:
        ValueError: labels of another shape, dtype or range.
    """
    kind = kind_of(scores, output)
    if kind is KINDS["raw"]:
        return
    if kind.exclusive:
        several = labels.ndim == 2
        require(not several, "output", "be 'sigmoid' for several labels per image", output)
        check_labels(labels, kind.class_scores(scores))
        return
    good = labels.shape == scores.shape and labels.is_floating_point()
    require(good, "labels", f"be a floating-point tensor of shape {tuple(scores.shape)}", labels)
    known = labels[~labels.isnan()]
    require(bool(((known == 0) | (known == 1)).all()), "labels", "be 0, 1 or NaN (unknown)", labels)


def warn_of_probabilities(scores: Tensor, output: Output = "auto") -> None:
    """Warn where scores already look like the result of a softmax, a sigmoid or a log_softmax.

    Args:
        scores: scores (B, K) of a model.
        output: what they are taken for; of ``raw`` scores nothing is expected.
    """
    ending = None if output == "raw" else _ending(precise(scores.detach()))
    if ending is not None:
        warnings.warn(
            f"the model seems to end in a {ending}, and output={output!r} would take the probabilities of that again: "
            "leave its last layer away, or use output='raw', which takes the numbers as they are.",
            stacklevel=3,
        )


def _ending(scores: Tensor) -> str | None:
    """Name the function whose results the scores look like, None where they look like scores."""
    if not scores.numel():
        return None
    several = scores.shape[1] > 1
    off = [(values.sum(1) - 1).abs().amax() for values in (scores, scores.exp())]
    low, high, sums, logs = torch.stack([*scores.aminmax(), *off]).tolist()  # one wait for the device
    if several and low >= 0 and sums < CLOSE:
        return "softmax"
    if several and high <= 0 and logs < CLOSE:
        return "log_softmax"
    within = low >= 0 and high <= 1 and high - low > SPREAD
    return "sigmoid" if within and scores.numel() >= ENOUGH else None


def _pick(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(1, labels.to(scores.device).unsqueeze(1)).squeeze(1)
