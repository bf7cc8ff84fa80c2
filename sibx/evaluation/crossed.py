"""A mean over the same images in several trainings, for other images and other trainings at once."""

from math import hypot, log

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import stdtrit

from sibx._checks import check_range, require
from sibx.evaluation.statistics import LEVEL, Interval

Array = npt.NDArray[np.float64]
SMALLEST = 1e-50  # p values below it are 0


def mean_over_seeds_and_images(values: Array, *, level: float = LEVEL) -> Interval:
    """Mean over a few trainings and over images, with an interval for other trainings and other images of their kind.

    The mean is that of the seeds' means over images. From it the interval reaches, to either side,
    ``sqrt(r_s^2 + r_i^2)``: r_s is what Student's interval over the seeds' means reaches, r_i what Student's interval
    over the images' means reaches, with one degree of freedom less than there are seeds and images. So it is never
    narrower than either: where trainings agree it is that over images, where they differ much that over seeds.

    With normal values its coverage is at least the level, whatever the ratio of the two spreads. That the same images
    are scored in every seed makes it a little wider than need be: the noise of single values counts in both reaches.

    Args:
        values: (N, S) one row per image, one column per training; NaN means undefined and is left out.
        level: coverage of the interval, in (0, 1).

    Returns:
        Interval; ``n`` counts images with a value in any training, ``undefined`` those without. All NaN with n = 0
        when no value is defined, infinitely wide when a single training or a single image has values.

    Raises:
        ValueError: values that are not two-dimensional, or a level out of range.

    Source: Banerjee 1960, Sankhya 22, 357; the choice is explained in ``docs/experiments/intervals_compared.md``.

    >>> import numpy as np
    >>> found = mean_over_seeds_and_images(np.array([[0.10, 0.14], [0.20, 0.22], [0.30, 0.30], [0.15, 0.20]]))
    >>> f"{found:.2f}", found.n
    ('0.20 [-0.01, 0.41]', 4)
    """
    check_range("level", level, 0, 1)
    of_seeds, of_images = _means(values)
    mean = float(of_seeds.mean()) if len(of_seeds) else np.nan
    reach = _reach(of_seeds, of_images, (1 - level) / 2)
    return Interval(mean, mean - reach, mean + reach, len(of_images), len(values) - len(of_images))


def p_value_over_seeds_and_images(values: Array) -> float:
    """Test whether the mean for other trainings and other images is zero.

    The two-sided p value that belongs to ``mean_over_seeds_and_images``: the smallest 1 - level whose interval does
    not hold zero.

    Args:
        values: (N, S) one row per image, one column per training; NaN means undefined and is left out.

    Returns:
        p in [0, 1]; 1 when a single training or a single image has values, NaN when none is defined.

    Raises:
        ValueError: values that are not two-dimensional.
    """
    of_seeds, of_images = _means(values)
    if not len(of_seeds):
        return float("nan")
    mean = abs(float(of_seeds.mean()))
    if mean <= _reach(of_seeds, of_images, 0.5):
        return 1.0
    if mean > _reach(of_seeds, of_images, SMALLEST / 2):
        return 0.0
    beyond = brentq(lambda x: mean - _reach(of_seeds, of_images, np.exp(x) / 2), log(SMALLEST), 0.0)
    return float(np.exp(beyond))


def _means(values: Array) -> tuple[Array, Array]:
    """The means of every training and of every image that has a value."""
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 2, "values", "be two-dimensional, images x trainings", values.shape)
    defined = ~np.isnan(values)
    values = values[defined.any(1)][:, defined.any(0)]
    return np.nanmean(values, axis=0), np.nanmean(values, axis=1)


def _reach(of_seeds: Array, of_images: Array, tail: float) -> float:
    """Half the width of the interval that leaves out ``tail`` on either side."""
    return hypot(_student(of_seeds, tail), _student(of_images, tail))


def _student(means: Array, tail: float) -> float:
    n = len(means)
    if n < 2:
        return float("inf") if n else float("nan")
    return float(-stdtrit(n - 1, tail)) * float(means.std(ddof=1)) / n**0.5
