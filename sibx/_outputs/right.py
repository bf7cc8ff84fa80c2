"""What is predicted, and which predictions are right."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_labels, check_logits, require
from sibx._outputs.kinds import Output, by_class, kind_of, pick
from sibx._outputs.truth import check_truth
from sibx._precise import precise


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
    right = of_classes.argmax(1) == labels if kind.exclusive else pick(of_classes, labels) > 0
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
