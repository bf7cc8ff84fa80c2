"""How a classifier of several labels per image does: what of the labels it finds, and how well it ranks photographs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sibx._checks import check_logits
from sibx._outputs import check_truth, probabilities
from sibx.datasets.batches import load_batches
from sibx.evaluation.class_match import Matched
from sibx.evaluation.columns import CLASSIFIER
from sibx.evaluation.drawn import draws_of, mean_of_defined, ranked, ratio
from sibx.evaluation.statistics import Interval, intervals_of

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
NOTED = "label_rates"  # key of run.json
LABEL_RATES = (
    "mean_average_precision",
    "f1",
    "precision",
    "recall",
    "lowest_recall",
    "auroc",
    "balanced_accuracy",
    "label_accuracy",
    "majority_rate",
)


class _Answers(NamedTuple):
    """Of N images and K labels: photograph (N,), probability, whether it is there and whether that is known, (N, K)."""

    photos: npt.NDArray[np.int64]
    chances: Array
    truth: Bools
    known: Bools

    @property
    def said(self) -> Bools:
        """What is predicted; a probability that is not a number is always wrong."""
        return np.where(np.isnan(self.chances), ~self.truth, self.chances > 0.5)


class _Counts(NamedTuple):
    """How many images of each draw have a label, are said to have it, and both; and how many there are; (D,) each."""

    there: Array
    said: Array
    both: Array
    total: Array


def label_rates(
    matched: Matched, columns: Mapping[str, Any], *, batch_size: int, workers: int, device: torch.device
) -> list[dict[str, Any]]:
    """Score a classifier of several labels on all photographs, those without a label too, which have no row.

    Args:
        matched: model and data set; the model is on the device, in eval mode.
        columns: what the lines have besides: the columns of ``TRAINED`` and the seed.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead.
        device: where to compute.

    Returns:
        A line for each of LABEL_RATES, with its 95 % bootstrap interval over photographs, ``n`` photographs, and how
        many ``rows`` results have of them; [] for one label per image, for a model of other classes, and where labels
        are not independent of each other (``softmax``, ``raw``). See ``classifier_rates`` for what the rates are.
    """
    if matched.photographs is None or matched.output != "sigmoid":
        return []
    answers = _read(matched, batch_size, workers, device)
    if answers is None:
        return []
    about = {**columns, "method": CLASSIFIER, "rows": len(matched.dataset)}
    return [{**about, "metric": name, **found._asdict()} for name, found in _intervals(answers)]


def _read(matched: Matched, batch_size: int, workers: int, device: torch.device) -> _Answers | None:
    chances, truth, photos = [], [], []
    assert matched.photographs is not None
    with torch.inference_mode():
        for batch in load_batches(matched.photographs, batch_size, workers):
            logits = matched.model(batch.images.to(device)).cpu()
            check_logits(logits, len(batch))
            labels = batch.labels[:, list(matched.places)]
            if logits.shape != labels.shape:
                return None
            check_truth(labels, logits, "sigmoid")
            chances.append(probabilities(logits, "sigmoid").numpy())
            truth.append(labels.numpy())
            photos += batch.photos
    codes = np.unique(np.array(photos), return_inverse=True)[1]
    labels = np.concatenate(truth)
    return _Answers(codes, np.concatenate(chances), labels == 1, ~np.isnan(labels))


def _intervals(answers: _Answers) -> Iterator[tuple[str, Interval]]:
    count = int(1 + answers.photos.max())
    weakest = _weakest(answers)
    (found,) = _rates(answers, np.ones((1, len(answers.photos))), weakest)
    draws = np.concatenate([_rates(answers, w, weakest) for w in draws_of(answers.photos)])
    yield from zip(LABEL_RATES, intervals_of(found, draws, count), strict=True)


def _weakest(answers: _Answers) -> int:
    """Return the label with the lowest recall: it is chosen once, not in every draw."""
    there = answers.truth.sum(0)
    recall = np.full(len(there), np.inf)
    np.divide((answers.truth & answers.said).sum(0), there, out=recall, where=there > 0)
    return int(recall.argmin())


def _rates(answers: _Answers, weights: Array, weakest: int) -> Array:
    """Return the LABEL_RATES of draws in which images count so often, weights (D, N), as (D, rates)."""
    labels = range(answers.truth.shape[1])
    counts = [_count(answers, weights, k) for k in labels]
    there, said, both, total = (np.stack(column, 1) for column in zip(*counts, strict=True))  # (D, K) each
    some = (there > 0) & (there < total)
    absent = total - there
    recall, specificity = ratio(both, there), ratio(absent - (said - both), absent)
    ranks = np.stack([_ranks(answers, weights, k) for k in labels])  # (K, D, 2)
    right, usual = _shares_of_right(answers)
    counted = weights * answers.known.any(1)
    return np.stack(
        [
            mean_of_defined(ranks[..., 0].T),
            mean_of_defined(np.where(some, ratio(2 * both, there + said), np.nan)),
            ratio(both.sum(1), said.sum(1)),
            ratio(both.sum(1), there.sum(1)),
            recall[:, weakest],
            mean_of_defined(ranks[..., 1].T),
            mean_of_defined((recall + specificity) / 2),
            ratio(counted @ right, counted.sum(1)),
            ratio(counted @ usual, counted.sum(1)),
        ],
        1,
    )


def _count(answers: _Answers, weights: Array, label: int) -> _Counts:
    known, truth, said = (table[:, label] for table in (answers.known, answers.truth, answers.said))
    columns = np.stack([truth & known, said & known, truth & said & known, known], 1).astype(np.float64)
    return _Counts(*(weights @ columns).T)


def _ranks(answers: _Answers, weights: Array, label: int) -> Array:
    known = answers.known[:, label]
    return ranked(answers.chances[known, label], answers.truth[known, label], weights[:, known])


def _shares_of_right(answers: _Answers) -> tuple[Array, Array]:
    """Return the share of an image's known labels that are right, and that of always giving the commonest answer."""
    counts, known = answers.known.sum(1), answers.known
    commonest = 2 * (answers.truth & known).sum(0) > known.sum(0)
    right = ((answers.said == answers.truth) & known).sum(1)
    usual = ((commonest == answers.truth) & known).sum(1)
    return ratio(right, counts, nothing=0.0), ratio(usual, counts, nothing=0.0)
