"""Paired tests: the signed-rank test of Wilcoxon, and Holm's correction for many of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from sibx._checks import require

Array = npt.NDArray[np.float64]
EXACT = 50  # up to so many differences that are not zero the p value is exact, as in scipy


class SignedRank(NamedTuple):
    """Outcome of a signed-rank test.

    Attributes:
        statistic: the smaller one of the rank sums of positive and negative differences.
        p_value: two-sided.
        n: pairs, those without a difference included.
        zeros: pairs without a difference.
        undefined: pairs left out because one of them is NaN.
    """

    statistic: float
    p_value: float
    n: int
    zeros: int
    undefined: int


def wilcoxon_signed_rank(values: Array, reference: Array) -> SignedRank:
    """Test whether paired differences are symmetric around zero.

    The absolute differences are ranked, equal ones by their mean rank, and zeros left out, as Wilcoxon has it. The p
    value is exact, over all 2^m signs of the m ranks, for up to 50 differences that are not zero, with ties too; above
    that it comes from the normal approximation, with its variance corrected for ties and no continuity correction.

    Args:
        values: (N,) one value per image; NaN means undefined.
        reference: (N,) values of the same images to compare with.

    Returns:
        SignedRank. Without any difference p is 1, without any pair NaN.

    Raises:
        ValueError: arrays that are not one-dimensional and of one length.

    Source: Wilcoxon 1945, Biometrics Bulletin 1. scipy's is exact without ties only.
    """
    values, reference = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    require(values.ndim == 1, "values", "be one-dimensional, one per image", values.shape)
    require(values.shape == reference.shape, "reference", f"have the shape {values.shape}", reference.shape)
    differences = values - reference
    defined = differences[~np.isnan(differences)]
    signed = defined[defined != 0]
    counts = len(defined), len(defined) - len(signed), len(values) - len(defined)
    if not len(signed):
        return SignedRank(np.nan if not len(defined) else 0.0, np.nan if not len(defined) else 1.0, *counts)
    ranks = rankdata(np.abs(signed))
    statistic = float(min(ranks[signed > 0].sum(), ranks[signed < 0].sum()))
    p_value = _exact(ranks, statistic) if len(signed) <= EXACT else _approximate(ranks, statistic)
    return SignedRank(statistic, p_value, *counts)


def holm(p_values: Array) -> Array:
    """Adjust the p values of a family of tests so that the chance of any false rejection is bounded.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. NaN is not a test: it stays
    NaN and does not count.

    Raises:
        ValueError: p values that are not one-dimensional, or outside [0, 1].

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    require(p_values.ndim == 1, "p_values", "be one-dimensional", p_values.shape)
    tests = np.flatnonzero(~np.isnan(p_values))
    ordered = tests[np.argsort(p_values[tests], kind="stable")]
    smallest_first = p_values[ordered]
    require(bool(((smallest_first >= 0) & (smallest_first <= 1)).all()), "p_values", "lie in [0, 1]", p_values)
    adjusted = np.full_like(p_values, np.nan)
    factors = np.arange(len(ordered), 0, -1)
    adjusted[ordered] = np.minimum(np.maximum.accumulate(factors * smallest_first), 1)
    return adjusted


def _exact(ranks: Array, statistic: float) -> float:
    """Share of all signs whose smaller rank sum is at most the statistic; mean ranks are halves, so all is doubled."""
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    tail = ways[: int(np.rint(2 * statistic)) + 1].sum()
    return float(min(1.0, 2 * tail / 2.0 ** len(ranks)))


def _approximate(ranks: Array, statistic: float) -> float:
    """Mean and variance over random signs; the variance sum r^2 / 4 holds with ties as it stands."""
    deviation = np.sqrt((ranks**2).sum() / 4)
    return float(min(1.0, 2 * norm.cdf((statistic - ranks.sum() / 2) / deviation)))
