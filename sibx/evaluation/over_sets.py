"""What a gain is on data that nobody measured: the mean over data sets, with its interval for other sets."""

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from sibx._checks import check_range, require
from sibx.evaluation.statistics import LEVEL, Array, Interval

TINY = 1e-24  # smallest variance of a set's gain: keeps the weight of a gain without any error finite


def mean_over_sets(gains: npt.ArrayLike, errors: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Mean gain over data sets with its interval for other sets (random effects).

    Set k has the gain g_k with the standard error e_k. Gains of sets vary around their mean with a variance tau^2,
    estimated by the method of moments (DerSimonian and Laird); weights are w_k = 1 / (e_k^2 + tau^2), the mean is
    m = sum(w g) / sum(w), and its interval m +- t s with s^2 = sum(w (g - m)^2) / ((K - 1) sum(w)), never less than
    1 / sum(w), and Student's t with K - 1 degrees of freedom (Hartung and Knapp).

    Args:
        gains: (K,) one gain per data set; NaN means undefined, is left out and counted.
        errors: (K,) the standard errors of the gains, at least 0, not all of them 0 where gains are equal.
        level: coverage of the interval, in (0, 1).

    Returns:
        Interval; all NaN with n = 0 when no gain is defined, infinitely wide for a single one.

    Raises:
        ValueError: arrays of different length or not one-dimensional, a negative or undefined error, or a level out of
            range.

    Source: DerSimonian and Laird 1986; Hartung and Knapp 2001; Knapp and Hartung 2003 for the lower bound of s.

    Example:
        >>> f"{mean_over_sets([0.02, 0.05, 0.03], [0.01, 0.01, 0.02])}"
        '0.034 [-0.013, 0.081]'
    """
    g, e = np.asarray(gains, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    require(g.ndim == 1, "gains", "be one-dimensional, one per data set", g.shape)
    require(e.shape == g.shape, "errors", f"have the shape {g.shape}", e.shape)
    check_range("level", level, 0, 1)
    defined = ~np.isnan(g)
    g, e, undefined = g[defined], e[defined], int((~defined).sum())
    require(bool((e >= 0).all()), "errors", "be at least 0 where there is a gain", e.tolist())
    if len(g) < 2:
        mean, reach = (float(g[0]), np.inf) if len(g) else (np.nan, np.nan)
        return Interval(mean, mean - reach, mean + reach, len(g), undefined)
    weights = 1 / np.maximum(e**2 + _variance_between(g, e), TINY)
    mean = float((weights * g).sum() / weights.sum())
    spread = float((weights * (g - mean) ** 2).sum() / (len(g) - 1))
    reach = float(student.ppf((1 + level) / 2, len(g) - 1)) * (max(1.0, spread) / float(weights.sum())) ** 0.5
    return Interval(mean, mean - reach, mean + reach, len(g), undefined)


def _variance_between(g: Array, e: Array) -> float:
    """Return tau^2 by the method of moments, at least 0."""
    weights = 1 / np.maximum(e**2, TINY)
    fixed = (weights * g).sum() / weights.sum()
    excess = (weights * (g - fixed) ** 2).sum() - (len(g) - 1)
    # sum(w) - sum(w^2) / sum(w), summed so that a set that is almost exact does not cancel the others.
    others = np.array([np.delete(weights, k).sum() for k in range(len(weights))])
    return max(0.0, float(excess / ((weights / weights.sum()) * others).sum()))
