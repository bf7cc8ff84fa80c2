"""What is beside an accuracy, with intervals: balanced accuracy, the worst recall, F1, and how well scores rank."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from sibx._outputs.rates import auroc, average_precision
from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import CLASSIFIER, NO_CLASS, TRAINED
from sibx.evaluation.statistics import LEVEL, RESAMPLES, Interval

RATES = (
    "accuracy",
    "balanced_accuracy",
    "lowest_recall",
    "f1",
    "auroc",
    "mean_average_precision",
    "majority_rate",
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


def classifier_rates(hits: pd.DataFrame) -> pd.DataFrame:
    """Return what is beside an accuracy, one line per trained model and rate, in the form of ``Results.summary``.

    Intervals are 95 % bootstrap ones over photographs, for these trainings; of several seeds the mean over seeds. An
    image with a NaN among its scores is wrong, as in every accuracy. Scores without classes, and several labels per
    image, have no rates (``label_scores``).

    Args:
        hits: rows of ``Results.hits``.

    Returns:
        The columns of ``TRAINED``, ``method`` (``classifier``), ``metric``, mean, low, high, n images, undefined.
        ``accuracy``; ``balanced_accuracy``: the mean recall of the classes (chance 1 / K); ``lowest_recall``: that of
        the class with the lowest; ``f1``: the mean over classes; of two classes also ``auroc`` (chance 0.5) and
        ``mean_average_precision`` (over both; chance 0.5), NaN of more, for which rows hold too little
        (``label_scores``); ``majority_rate``: the accuracy of always
        giving the commonest label. All in [0, 1]; but for the last, larger is better.
    """
    lines = []
    for key, cell in hits.groupby(list(TRAINED), sort=False):
        of_seeds = [_answers(images) for _, images in cell.groupby("seed") if _has_classes(images)]
        for name, interval in _intervals(of_seeds) if of_seeds else ():
            about = dict(zip(TRAINED, key, strict=True)) | {"method": CLASSIFIER, "metric": name}
            lines.append({**about, **interval._asdict()})
    return pd.DataFrame(lines, columns=[*TRAINED, "method", "metric", *Interval._fields])


def _has_classes(images: pd.DataFrame) -> bool:
    """Whether every image has one label and a prediction: rows of several labels say nothing of absent ones."""
    return bool((images["predicted"] != NO_CLASS).all()) and not _one_of_several(images)


def _one_of_several(images: pd.DataFrame) -> bool:
    """Whether rows are those of ``OnePerClass``, or others where a photograph has several labels."""
    return bool((images.groupby("photo")["label"].nunique() > 1).any())


def _answers(images: pd.DataFrame) -> _Answers:
    labels, right = images["label"].to_numpy(), is_right(images).to_numpy() == 1
    said = images["predicted"].to_numpy()
    confidence = images["confidence"].to_numpy(np.float64)
    two = set(labels) | set(said) <= {0, 1}
    recall = pd.Series(right).groupby(labels).mean()
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
    found = _mean(np.array([_rates(answers, np.ones(len(answers.labels))) for answers in of_seeds]), axis=0)
    draws = np.array([_resample(of_seeds, number) for number in range(RESAMPLES)])
    known = ~np.isnan(found)
    low, high = np.full((2, len(found)), np.nan)
    low[known], high[known] = np.nanquantile(draws[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    for place, name in enumerate(RATES):
        n = count if known[place] else 0
        yield name, Interval(float(found[place]), float(low[place]), float(high[place]), n, count - n)


def _resample(of_seeds: list[_Answers], number: int) -> np.ndarray:
    """Return the rates of one draw of photographs, the same ones for every seed, the mean over seeds."""
    rates = []
    for answers in of_seeds:
        count = 1 + answers.photos.max()
        drawn = np.random.default_rng(number).integers(count, size=count)
        rates.append(_rates(answers, np.bincount(drawn, minlength=count).astype(np.float64)[answers.photos]))
    return _mean(np.array(rates), axis=0)


def _rates(answers: _Answers, weights: np.ndarray) -> np.ndarray:
    """Return the RATES of images that count so often, weights (N,); NaN where a rate is undefined."""
    size = 1 + int(max(answers.labels.max(), answers.said.max()))
    true, said, found = (
        np.bincount(answers.labels, weights, size),
        np.bincount(answers.said, weights, size),
        np.bincount(answers.labels, weights * answers.right, size),
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 of a class without an image
        recall, f1 = found / true, 2 * found / (true + said)
    several = (true > 0).sum() > 1
    ranked = [np.nan, np.nan]
    if answers.chances is not None:
        first, chances = answers.labels == 1, answers.chances
        both = [average_precision(chances, first, weights), average_precision(1 - chances, ~first, weights)]
        ranked = [auroc(chances, first, weights), sum(both) / 2]
    return np.array(
        [
            found.sum() / true.sum(),
            _mean(recall),
            recall[answers.weakest],
            _mean(f1[true > 0]) if several else np.nan,
            *ranked,
            true[answers.commonest] / true.sum(),
        ]
    )


def _mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the mean of what is defined, NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    return np.divide(np.where(known, values, 0).sum(axis), count, out=np.full(count.shape, np.nan), where=count > 0)
