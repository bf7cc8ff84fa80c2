"""What is beside an accuracy, with intervals: balanced accuracy, the worst recall, F1, and how well scores rank."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import BALANCED, CLASSIFIER, NO_CLASS, RECALL, TRAINED
from sibx.evaluation.drawn import Array, draws_of, mean_of_defined, ranked, ratio
from sibx.evaluation.label_rates import LABEL_RATES
from sibx.evaluation.statistics import Interval, intervals_of

MAJORITY = "majority_rate"
RATES = (
    "accuracy",
    BALANCED,
    "lowest_recall",
    "f1",
    "auroc",
    "mean_average_precision",
    MAJORITY,
)


class _Answers(NamedTuple):
    """What a network said of N images: labels, whether each is right, what was predicted, probability of class 1."""

    photos: np.ndarray  # number of each image's photograph
    labels: np.ndarray
    right: np.ndarray
    said: np.ndarray
    chances: np.ndarray | None  # of two classes only
    weakest: int  # class with the lowest recall
    commonest: int


def classifier_rates(hits: pd.DataFrame, of_labels: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Return what is beside an accuracy, one line per trained model and rate, in the form of ``Results.summary``.

    Intervals are 95 % bootstrap ones over photographs, for these trainings; of several seeds the mean over seeds. An
    image with a NaN among its scores is wrong, as in every accuracy. Scores without classes have no rates. Rows of
    several labels say nothing of absent ones: their rates are those that the evaluation has noted for all photographs,
    and there are none for a part of the rows; of several seeds they and their bounds are means over seeds.

    Args:
        hits: rows of ``Results.hits``.
        of_labels: lines of ``label_rates``, one for each trained model, seed and rate.

    Returns:
        The columns of ``TRAINED``, ``method`` (``classifier``), ``metric``, mean, low, high, n images, undefined.
        ``accuracy``; ``balanced_accuracy``: the mean recall of the classes (chance 1 / K); ``lowest_recall``: that of
        the class with the lowest; ``f1``: the mean over classes; of two classes also ``auroc`` (chance 0.5) and
        ``mean_average_precision`` (over both; chance 0.5), NaN of more, for which rows hold too little
        (``label_scores``); ``majority_rate``: the accuracy of always giving the commonest label. Of several labels per
        image: ``mean_average_precision`` (mAP; chance: the share of images with the label), ``f1`` and ``auroc``, means
        over labels; ``precision``: the share of the labels said that are there; ``recall``: the share of the labels
        there that are said; ``lowest_recall``: that of the label with the lowest; ``balanced_accuracy``: the mean over
        labels of recall and specificity (chance 0.5); ``label_accuracy``: the share of all known labels, there or not,
        that are right; ``majority_rate``: what always giving each label's commonest answer has of it. All in [0, 1];
        but for the last, larger is better.
    """
    lines = []
    for key, cell in hits.groupby(list(TRAINED), sort=False, observed=True):
        about = dict(zip(TRAINED, key, strict=True))
        seeds = [
            (seed, images)
            for seed, images in cell.groupby("seed", observed=True)
            if (images["predicted"] != NO_CLASS).all()
        ]
        if (cell["metric"] == RECALL).any():
            found = list(_noted(of_labels, about, {seed: len(images) for seed, images in seeds}))
        else:
            found = list(_intervals([_answers(images) for _, images in seeds])) if seeds else []
        lines += [{**about, "method": CLASSIFIER, "metric": name, **i._asdict()} for name, i in found]
    return pd.DataFrame(lines, columns=[*TRAINED, "method", "metric", *Interval._fields])


def _noted(
    lines: Sequence[Mapping[str, Any]], about: Mapping[str, Any], rows: Mapping[Any, int]
) -> Iterator[tuple[str, Interval]]:
    """Yield the rates noted for a trained model; nothing for seeds whose rows are others than those noted."""
    for name in LABEL_RATES:
        wanted = {**about, "metric": name}
        ours = [line for line in lines if all(line[key] == value for key, value in wanted.items())]
        of_seeds = {line["seed"]: Interval.of(line) for line in ours if rows.get(line["seed"]) == line["rows"]}
        if of_seeds:
            mean, low, high = mean_of_defined(np.array([found[:3] for found in of_seeds.values()]), 0).tolist()
            most = max(of_seeds.values(), key=lambda found: found.n)
            yield name, Interval(mean, low, high, most.n, most.undefined)


def _answers(images: pd.DataFrame) -> _Answers:
    labels, right = images["label"].to_numpy(), is_right(images).to_numpy() == 1
    said = images["predicted"].to_numpy()
    confidence = images["confidence"].to_numpy(np.float64)
    two = set(labels) | set(said) <= {0, 1}
    recall = pd.Series(right).groupby(labels, observed=True).mean()
    return _Answers(
        photos=pd.factorize(images["photo"])[0],
        labels=labels,
        right=right,
        said=np.where(np.isnan(confidence), labels.max() + 1, said),  # no class that is true
        chances=np.where(said == 1, confidence, 1 - confidence) if two else None,
        weakest=int(str(recall.idxmin())),
        commonest=int(np.bincount(labels).argmax()),
    )


def _intervals(of_seeds: list[_Answers]) -> Iterator[tuple[str, Interval]]:
    count = max(len(answers.labels) for answers in of_seeds)
    once = np.stack([_rates(answers, np.ones((1, len(answers.labels)))) for answers in of_seeds])
    (found,) = mean_of_defined(once, 0)
    # The same photographs for every seed, and the mean over seeds.
    drawn = zip(*(draws_of(answers.photos) for answers in of_seeds), strict=True)
    of_draws = (np.stack([_rates(a, w) for a, w in zip(of_seeds, weights, strict=True)]) for weights in drawn)
    draws = np.concatenate([mean_of_defined(rates, 0) for rates in of_draws])
    yield from zip(RATES, intervals_of(found, draws, count), strict=True)


def _rates(answers: _Answers, weights: Array) -> Array:
    """Return the RATES of draws in which images count so often, weights (D, N), as (D, rates); NaN if undefined."""
    size = 1 + int(max(answers.labels.max(), answers.said.max()))
    true, said = _count(answers.labels, weights, size), _count(answers.said, weights, size)
    found = _count(answers.labels, weights * answers.right, size)
    recall, f1 = ratio(found, true), ratio(2 * found, true + said)
    several = (true > 0).sum(1) > 1
    ranks = np.full((3, len(weights)), np.nan)
    if answers.chances is not None:
        first, chances = answers.labels == 1, answers.chances
        precision, area = ranked(chances, first, weights).T
        ranks = np.stack([area, precision, ranked(1 - chances, ~first, weights)[:, 0]])
    return np.stack(
        [
            ratio(found.sum(1), true.sum(1)),
            mean_of_defined(recall),
            recall[:, answers.weakest],
            np.where(several, mean_of_defined(np.where(true > 0, f1, np.nan)), np.nan),
            ranks[0],
            ranks[1:].mean(0),
            ratio(true[:, answers.commonest], true.sum(1)),
        ],
        1,
    )


def _count(classes: npt.NDArray[np.int64], weights: Array, size: int) -> Array:
    """Return how often each of so many classes comes in every draw, (D, K)."""
    draws = len(weights)
    places = classes + size * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), weights.ravel(), size * draws)
    return counts.reshape(draws, size).astype(np.float64)
