"""Rates of many draws of photographs, some draws at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sibx.evaluation.statistics import RESAMPLES

Array = npt.NDArray[np.float64]
CHUNK = 50  # draws that are counted together


def draws_of(photos: npt.NDArray[np.int64]) -> Iterator[Array]:
    """Yield how often each image counts in draws of photographs with replacement, (D, N) for some draws at a time.

    A draw depends on its number and on how many photographs there are alone: results of other trainings on the same
    photographs are drawn alike.

    Args:
        photos: (N,) number of each image's photograph, from 0.
    """
    count = int(1 + photos.max())
    for first in range(0, RESAMPLES, CHUNK):
        rngs = (np.random.default_rng(number) for number in range(first, min(first + CHUNK, RESAMPLES)))
        drawn = np.stack([np.bincount(rng.integers(count, size=count), minlength=count) for rng in rngs])
        yield drawn[:, photos].astype(np.float64)


def ranked(chances: Array, truth: npt.NDArray[np.bool_], weights: Array) -> Array:
    """Return average precision and AUROC in every draw, (D, 2); NaN where a probability is not a number.

    Args:
        chances: (N,) probabilities.
        truth: (N,) what is true.
        weights: (D, N) how often each image counts.
    """
    if not len(chances) or np.isnan(chances).any():
        return np.full((len(weights), 2), np.nan)
    order = np.argsort(-chances, kind="stable")
    values = chances[order]
    last = np.searchsorted(-values, -values, side="right") - 1  # of those with the same probability
    before = np.searchsorted(-values, -values, side="left")  # how many have a larger one
    counts = weights[:, order]
    positive = counts * truth[order]
    found, asked = positive.cumsum(1), counts.cumsum(1)
    # Images that are there: the precision at their own threshold, and the share of the others that are ranked lower.
    precision = ratio(found[:, last], asked[:, last], nothing=0.0)
    others = np.concatenate([np.zeros((len(counts), 1)), asked - found], 1)
    below = others[:, -1:] - (others[:, last + 1] + others[:, before]) / 2  # ties halved
    there, absent = found[:, -1], others[:, -1]
    both = (there > 0) & (absent > 0)
    scores = ratio((positive * precision).sum(1), there), ratio((positive * below).sum(1), there * absent)
    return np.stack([np.where(both, score, np.nan) for score in scores], 1)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike, nothing: float = np.nan) -> Array:
    """Divide; ``nothing`` where there is nothing to divide by."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0)


def mean_of_defined(values: Array, axis: int = 1) -> Array:
    """Return the mean over an axis of what is defined, NaN without any."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis), known.sum(axis))
