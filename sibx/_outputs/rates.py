"""How good a classifier is beyond accuracy: what it finds of every class, and how well its scores rank images."""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_labels, check_same_batch, require
from sibx._outputs.kinds import KINDS, Output, probabilities
from sibx._outputs.right import predicted_beside
from sibx._outputs.truth import check_truth

NOTHING = -1  # the prediction for an image whose scores are not numbers: no class, always wrong


class Rates(TypedDict):
    """How good a classifier is on N images; every number is in [0, 1], larger is better, NaN = undefined.

    ``majority_rate`` is no merit of the classifier but what the other rates have to be compared with.
    """

    accuracy: float
    majority_rate: float
    balanced_accuracy: float
    recall: list[float]
    f1: float
    auroc: float
    average_precision: float


class _Question(NamedTuple):
    """Whether images are of one class: what is true and what is said, (n,) bool, and how probable it was, (n,)."""

    truth: np.ndarray
    said: np.ndarray
    chances: np.ndarray | None


def classification_rates(
    answers: Tensor, labels: Tensor, *, output: Output = "auto", classes: int | None = None
) -> Rates:
    """Return what is beside an accuracy, from a model's scores or from its predictions.

    Every class is asked against the rest. Means over classes count each class equally, and leave out those for which a
    rate is undefined: recall without an image of the class; F1, AUROC and average precision where all images, or none,
    are of the class.

    Args:
        answers: scores (N, K) of a model, floating point; or predicted classes (N,), integer, -1 = no class.
        labels: class indices (N,), 0 and 1 for a single score; or for several labels (N, K) in {0, 1, NaN = unknown}.
        output: what the scores are.
        classes: number of classes C; None = that of the scores, or as many as predictions and labels name.

    Returns:
        A dictionary: ``accuracy``, the mean of ``sibx.models.hits``; ``majority_rate``, the accuracy of always giving
        the commonest answer; ``recall`` of the C classes; ``balanced_accuracy``, the mean recall (of several labels the
        mean of recall and specificity; chance is 1 / C, or 0.5); ``f1``, the mean over classes; ``auroc``, the mean
        over classes of the probability that an image of the class is ranked above one without it (chance 0.5);
        ``average_precision``, the mean over classes (chance: the share of the class). The last two are NaN of
        predictions, and of scores that are NaN.

    Raises:
        ValueError: another shape, dtype or range, or ``raw`` scores, of which nothing is right.

    Example:
        >>> scores = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
        >>> rates = classification_rates(scores, torch.tensor([0, 0, 1, 1]))
        >>> rates["accuracy"], rates["recall"], rates["auroc"]
        (0.75, [1.0, 0.5], 1.0)
    """
    questions = list(_several(answers, labels, output) if labels.ndim == 2 else _one(answers, labels, output, classes))
    recall = [_share(q.said[q.truth]) for q in questions]
    both = [(found + _share(~q.said[~q.truth])) / 2 for q, found in zip(questions, recall, strict=True)]
    ranked = [q for q in questions if q.chances is not None]
    accuracy, majority = _accuracies(questions, labels)
    return Rates(
        accuracy=accuracy,
        majority_rate=majority,
        balanced_accuracy=_mean(both if labels.ndim == 2 else recall),
        recall=recall,
        f1=_mean([f1(q.said, q.truth) for q in questions]),
        auroc=_mean([auroc(q.chances, q.truth) for q in ranked if q.chances is not None]),
        average_precision=_mean([average_precision(q.chances, q.truth) for q in ranked if q.chances is not None]),
    )


def f1(said: np.ndarray, truth: np.ndarray) -> float:
    """Return the harmonic mean of precision and recall of yes-or-no answers (N,); NaN where only one answer is true."""
    if not _both(truth):
        return float("nan")
    return float(2 * (said & truth).sum() / (said.sum() + truth.sum()))


def auroc(chances: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the ROC curve of values (N,) for a truth (N,), ties halved; NaN where it is undefined."""
    positive, negative = _by_value(chances, truth)
    if not positive.sum() or not negative.sum() or np.isnan(chances).any():
        return float("nan")
    below = negative.cumsum() - negative / 2
    return float((positive * below).sum() / (positive.sum() * negative.sum()))


def average_precision(chances: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean precision over true images, each at its own value as threshold; NaN where it is undefined."""
    positive, negative = (counts[::-1] for counts in _by_value(chances, truth))
    if not positive.sum() or not negative.sum() or np.isnan(chances).any():
        return float("nan")
    found, asked = positive.cumsum(), (positive + negative).cumsum()
    precision = np.divide(found, asked, out=np.zeros_like(found), where=asked > 0)
    return float((positive * precision).sum() / positive.sum())


def _by_value(chances: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many true and how many other images have each value, in ascending order of values."""
    values, place = np.unique(chances, return_inverse=True)
    positive, negative = (np.bincount(place, of_kind, len(values)) for of_kind in (truth, ~truth))
    return positive, negative


def _one(answers: Tensor, labels: Tensor, output: Output, classes: int | None) -> Iterator[_Question]:
    """Yield the question of every class, of which each image has one."""
    said, chances = _read(answers, labels, output, classes)
    truth, count = labels.cpu().numpy(), chances.shape[1] if chances is not None else _count(said, labels, classes)
    for k in range(count):
        yield _Question(truth == k, said == k, None if chances is None else chances[:, k])


def _read(answers: Tensor, labels: Tensor, output: Output, classes: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return predicted classes (N,), and probabilities (N, C) where there are scores."""
    if answers.ndim == 1 and not answers.is_floating_point():
        check_same_batch(answers, labels=labels)
        if classes is not None:
            check_labels(labels, answers.new_empty(len(answers), classes))
        return answers.cpu().numpy(), None
    _check_scores(answers, labels)
    require(output != "raw", "output", "be 'softmax' or 'sigmoid' for an accuracy", output)
    chances = probabilities(answers, output)
    check_labels(labels, chances)
    said = predicted_beside(answers, labels, output).masked_fill(answers.isnan().any(1), NOTHING)
    return said.cpu().numpy(), chances.cpu().numpy()


def _count(said: np.ndarray, labels: Tensor, classes: int | None) -> int:
    return classes if classes is not None else 1 + max((-1, *said.tolist(), *labels.tolist()))


def _several(answers: Tensor, labels: Tensor, output: Output) -> Iterator[_Question]:
    """Yield the question of every label, on the images where it is known; those may be different ones."""
    _check_scores(answers, labels)
    require(output != "raw", "output", "be 'sigmoid' for several labels", output)
    check_truth(labels, answers, output)
    chances, truths = KINDS["sigmoid"].probabilities(answers.cpu().double()).numpy(), labels.cpu().numpy()
    for column, truth in zip(chances.T, truths.T, strict=True):
        known = ~np.isnan(truth)
        there, chance = truth[known] == 1, column[known]
        yield _Question(there, np.where(np.isnan(chance), ~there, chance > 0.5), chance)  # NaN is always wrong


def _check_scores(answers: Tensor, labels: Tensor) -> None:
    good = answers.ndim == 2 and len(answers) == len(labels) and answers.is_floating_point()
    require(good, "answers", f"be scores (N, K) with N = {len(labels)}, or predicted classes (N,), integer", answers)


def _accuracies(questions: list[_Question], labels: Tensor) -> tuple[float, float]:
    """Return the accuracy, and that of always giving the commonest answer."""
    if labels.ndim == 1:
        right = sum(int((q.said & q.truth).sum()) for q in questions)
        most = max((int(q.truth.sum()) for q in questions), default=0)
        return (right / len(labels), most / len(labels)) if len(labels) else (float("nan"), float("nan"))
    known = ~labels.cpu().isnan()
    found, usual = (torch.full(labels.shape, torch.nan, dtype=torch.float64) for _ in range(2))
    for k, q in enumerate(questions):
        found[known[:, k], k] = torch.from_numpy((q.said == q.truth).astype(np.float64))
        usual[known[:, k], k] = torch.from_numpy((q.truth == (2 * q.truth.sum() > len(q.truth))).astype(np.float64))
    return float(found.nanmean(1).nanmean()), float(usual.nanmean(1).nanmean())


def _both(truth: np.ndarray) -> bool:
    return bool(0 < truth.sum() < len(truth))


def _share(answers: np.ndarray) -> float:
    return float(answers.mean()) if len(answers) else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")
