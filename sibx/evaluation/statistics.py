"""Uncertainty: percentile bootstrap over images, Student's t over runs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

from sibx._checks import check_integer, check_range, require
from sibx.evaluation.photographs import totals_of

Array = npt.NDArray[np.float64]
RESAMPLES, LEVEL = 2000, 0.95
DRAWN = 2**20  # numbers of a bootstrap that are in memory together


class Interval(NamedTuple):
    """A mean with its interval, the number of values behind it, and how many were undefined (NaN).

    It formats itself, by default with three decimals; the format is that of its numbers. Without a value it is
    ``undefined``.

    >>> found = Interval(0.0512, 0.01, 0.0924, n=40, undefined=0)
    >>> f"{found}", f"{found:+.2f}", found.excludes_zero
    ('0.051 [0.010, 0.092]', '+0.05 [+0.01, +0.09]', True)
    """

    mean: float
    low: float
    high: float
    n: int
    undefined: int

    @classmethod
    def of(cls, line: Mapping[Any, Any] | pd.Series) -> "Interval":
        """Return the interval in a line of ``Results.summary`` or of any other table that has its columns."""
        return cls(*(line[name] for name in cls._fields))

    @property
    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side of 0: a difference is shown. Not so where it touches 0 or is undefined."""
        return self.low > 0 or self.high < 0

    def __format__(self, spec: str) -> str:
        if not self.n:
            return "undefined"
        mean, low, high = (format(value, spec or ".3f") for value in self[:3])
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def bootstrap_mean(
    values: Array,
    *,
    photos: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean over images with a percentile bootstrap interval.

    Args:
        values: (N,) one value per image; NaN means undefined, is left out and counted.
        photos: (N,) what tells photographs apart where several values are of the same one: they are drawn together, and
            ``n`` counts photographs; None = each value is of a photograph of its own.
        resamples: number of draws with replacement, at least 1.
        level: coverage of the interval, in (0, 1).
        seed: seed of the random draws.

    Returns:
        Interval; all NaN with n = 0 when no value is defined, a zero-width one when a single value is.

    Raises:
        ValueError: values that are not one-dimensional, or a number out of range.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 1, "values", "be one-dimensional, one per image", values.shape)
    check_integer("resamples", resamples, 1)
    check_range("level", level, 0, 1)
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return Interval(np.nan, np.nan, np.nan, 0, undefined)
    own = np.arange(len(values)) if photos is None else np.asarray(photos)
    require(own.shape == values.shape, "photos", f"have the shape {values.shape}", own.shape)
    sums, counts = totals_of(defined, own[~np.isnan(values)])
    several = bool((counts > 1).any())
    draws = _draws(len(sums), resamples, seed)
    means = np.concatenate([sums[d].sum(1) / (counts[d].sum(1) if several else len(sums)) for d in draws])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(defined.mean()), float(low), float(high), len(sums), undefined)


def _draws(count: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield which of so many are drawn, (R, count), for all resamples together, but at most ``DRAWN`` numbers at once.

    Numbers come one by one from a generator: they are those of a single draw of all.
    """
    rng, size = np.random.default_rng(seed), max(1, DRAWN // count)
    for first in range(0, resamples, size):
        yield rng.integers(count, size=(min(size, resamples - first), count))


def bootstrap_class_mean(
    values: Array,
    labels: npt.ArrayLike,
    *,
    photos: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean over classes of their means over images, with a percentile bootstrap interval: every class counts equally.

    Of 1 for an image that is classified right and 0 for others that is the balanced accuracy.

    Args:
        values: (N,) one value per image; NaN means undefined, is left out and counted.
        labels: (N,) class of every image.
        photos: (N,) what tells photographs apart, see ``bootstrap_mean``.
        resamples: number of draws with replacement, at least 1; a class of which a draw has no image is left out there.
        level: coverage of the interval, in (0, 1).
        seed: seed of the random draws.

    Returns:
        Interval; all NaN with n = 0 when no value is defined.

    Raises:
        ValueError: values or labels that are not one-dimensional, or a number out of range.

    >>> import numpy as np
    >>> right = np.array([1.0] * 90 + [0.0] * 10)  # a classifier that knows one of two classes
    >>> bootstrap_class_mean(right, [0] * 90 + [1] * 10).mean
    0.5
    """
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    require(values.ndim == 1, "values", "be one-dimensional, one per image", values.shape)
    require(labels.shape == values.shape, "labels", f"have the shape {values.shape}", labels.shape)
    check_integer("resamples", resamples, 1)
    check_range("level", level, 0, 1)
    defined = ~np.isnan(values)
    undefined = int((~defined).sum())
    if not defined.any():
        return Interval(np.nan, np.nan, np.nan, 0, undefined)
    own = np.arange(len(values)) if photos is None else np.asarray(photos)
    require(own.shape == values.shape, "photos", f"have the shape {values.shape}", own.shape)
    of_class = np.eye(len(np.unique(labels[defined])))[np.unique(labels[defined], return_inverse=True)[1]]
    per_class = np.concatenate([of_class * values[defined, None], of_class], 1)
    (sums, _), classes = totals_of(per_class, own[defined]), of_class.shape[1]

    def mean(totals: Array) -> Array:  # (..., 2 K): sums and counts of the classes
        parts, counts = totals[..., :classes], totals[..., classes:]
        means = np.divide(parts, counts, out=np.zeros_like(parts), where=counts > 0)
        return np.asarray(means.sum(-1) / (counts > 0).sum(-1), dtype=np.float64)

    count = len(sums)
    drawn = (np.stack([np.bincount(one, minlength=count) for one in draws]) for draws in _draws(count, resamples, seed))
    means = [mean(often @ sums) for often in drawn]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean(sums.sum(0))), float(low), float(high), count, undefined)


def intervals_of(found: Array, draws: Array, count: int) -> list[Interval]:
    """Return a percentile interval of each of several scores of the same images, all NaN of one that is undefined.

    Args:
        found: (S,) the scores.
        draws: (R, S) the scores of draws with replacement; NaN where a draw has none.
        count: number of images, or of photographs, that were drawn.
    """
    known = ~np.isnan(found)
    low, high = np.full((2, len(found)), np.nan)
    low[known], high[known] = np.nanquantile(draws[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    numbers = np.where(known, count, 0).tolist()
    bounds = zip(found.tolist(), low.tolist(), high.tolist(), numbers, strict=True)
    return [Interval(mean, lowest, highest, n, count - n) for mean, lowest, highest, n in bounds]


class Band(NamedTuple):
    """Mean, low and high (S,) over the points of curves, the number of curves, and how many were undefined (NaN)."""

    mean: Array
    low: Array
    high: Array
    n: int
    undefined: int


def bootstrap_band(
    curves: Array,
    *,
    photos: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Band:
    """Mean curve over images with a percentile bootstrap interval at every point.

    At every point what ``bootstrap_mean`` gives, of the same draws; a band therefore covers each point, not the whole
    curve, with the level.

    Args:
        curves: (N, S) one curve per image; a curve with a NaN is undefined, is left out and counted.
        photos: (N,) what tells photographs apart, see ``bootstrap_mean``.
        resamples: number of draws with replacement, at least 1.
        level: coverage of the interval, in (0, 1).
        seed: seed of the random draws.

    Returns:
        Band; all NaN with n = 0 when no curve is defined.

    Raises:
        ValueError: curves that are not two-dimensional, or a number out of range.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    curves = np.asarray(curves, dtype=np.float64)
    require(curves.ndim == 2, "curves", "be two-dimensional, one line per image", curves.shape)
    check_integer("resamples", resamples, 1)
    check_range("level", level, 0, 1)
    good = ~np.isnan(curves).any(1)
    defined, undefined = curves[good], int((~good).sum())
    if not len(defined):
        nothing = np.full(curves.shape[1], np.nan)
        return Band(nothing, nothing, nothing, 0, undefined)
    own = np.arange(len(curves)) if photos is None else np.asarray(photos)
    require(own.shape == curves.shape[:1], "photos", f"have the shape {curves.shape[:1]}", own.shape)
    sums, rows_of = totals_of(defined, own[good])
    means = [_means_of_draw(draws, sums, rows_of) for draws in _draws(len(sums), resamples, seed)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(defined.mean(0), low, high, len(sums), undefined)


def _means_of_draw(draws: npt.NDArray[np.int64], sums: Array, rows_of: Array) -> Array:
    """Mean curves (R, S) of draws (R, n) from sums (n, S) over so many rows (n,)."""
    (resamples, n), places = draws.shape, np.arange(len(draws))[:, None]
    # How often each resample has each image: a product with it takes S times less memory than the resamples.
    counts = np.bincount((draws + n * places).ravel(), minlength=resamples * n).reshape(resamples, n)
    return np.asarray(counts @ sums / (counts @ rows_of)[:, None])


def bootstrap_difference(
    values: Array,
    reference: Array,
    *,
    photos: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of ``values - reference`` over the same images, with its interval.

    Args:
        values: (N,) one value per image; an image that is NaN here or in the reference is left out and counted.
        reference: (N,) values of the same images that are subtracted.
        photos: (N,) what tells photographs apart, see ``bootstrap_mean``.
        resamples: number of draws with replacement, at least 1.
        level: coverage of the interval, in (0, 1).
        seed: seed of the random draws.

    Returns:
        Interval; all NaN with n = 0 when no pair is defined.

    Raises:
        ValueError: arrays of different length or not one-dimensional, or a number out of range.
    """
    values, reference = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    require(values.shape == reference.shape, "reference", f"have the shape {values.shape}", reference.shape)
    return bootstrap_mean(values - reference, photos=photos, resamples=resamples, level=level, seed=seed)


def mean_over_seeds(values: Array, *, level: float = LEVEL) -> Interval:
    """Mean over a few independent runs with Student's t interval.

    Args:
        values: (N,) one value per run; NaN means undefined, is left out and counted.
        level: coverage of the interval, in (0, 1).

    Returns:
        Interval; all NaN with n = 0 when no value is defined, infinitely wide for a single one.

    Raises:
        ValueError: values that are not one-dimensional, or a level out of range.

    Source: Student 1908. A bootstrap of five values would be too narrow.
    """
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 1, "values", "be one-dimensional, one per run", values.shape)
    check_range("level", level, 0, 1)
    defined = values[~np.isnan(values)]
    n, undefined = len(defined), int(np.isnan(values).sum())
    if n < 2:
        mean = float(defined[0]) if n else np.nan
        return Interval(mean, -np.inf if n else np.nan, np.inf if n else np.nan, n, undefined)
    reach = float(student.ppf((1 + level) / 2, n - 1)) * float(defined.std(ddof=1)) / n**0.5
    mean = float(defined.mean())
    return Interval(mean, mean - reach, mean + reach, n, undefined)
