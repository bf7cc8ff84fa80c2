"""The mean over data sets: against published numbers of a textbook example, and what it must do at the edges."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from sibx.evaluation import mean_over_sets


def slow(gains, errors):
    """Random effects from their definitions, set by set."""
    k = len(gains)
    fixed_weights = [1 / e**2 for e in errors]
    fixed = sum(w * g for w, g in zip(fixed_weights, gains, strict=True)) / sum(fixed_weights)
    q = sum(w * (g - fixed) ** 2 for w, g in zip(fixed_weights, gains, strict=True))
    c = sum(fixed_weights) - sum(w**2 for w in fixed_weights) / sum(fixed_weights)
    tau2 = max(0.0, (q - (k - 1)) / c)
    weights = [1 / (e**2 + tau2) for e in errors]
    mean = sum(w * g for w, g in zip(weights, gains, strict=True)) / sum(weights)
    variance = sum(w * (g - mean) ** 2 for w, g in zip(weights, gains, strict=True)) / ((k - 1) * sum(weights))
    variance = max(variance, 1 / sum(weights))
    reach = student.ppf(0.975, k - 1) * math.sqrt(variance)
    return mean, mean - reach, mean + reach


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("between", [0.0, 0.02, 0.2])
def test_equals_the_definition(seed, between):
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.005, 0.05, 6)
    gains = 0.03 + between * rng.standard_normal(6) + errors * rng.standard_normal(6)
    assert mean_over_sets(gains, errors)[:3] == pytest.approx(slow(gains, errors))


def test_covers_other_sets():
    """Of simulated studies of five sets, about 95 % of the intervals hold the mean of all sets."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        errors = rng.uniform(0.01, 0.03, 5)
        gains = 0.02 + 0.03 * rng.standard_normal(5) + errors * rng.standard_normal(5)
        found = mean_over_sets(gains, errors)
        held += found.low <= 0.02 <= found.high
    assert held / 400 > 0.92


def test_sets_that_agree_are_not_surer_than_their_errors():
    found = mean_over_sets([0.05, 0.05, 0.05], [0.03, 0.03, 0.03])
    reach = student.ppf(0.975, 2) * 0.03 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.05 - reach, 0.05 + reach))


@pytest.mark.parametrize("exact", [0.0, 1e-9])
def test_a_set_without_an_error_does_not_hide_the_others(exact):
    """The spread between sets is still seen; with (0, e, e) and gains (0, d, d) it is (d^2 - e^2) / 2."""
    found = mean_over_sets([0.0, 0.1, 0.1], [exact, 0.01, 0.01])
    tau2 = (0.1**2 - 0.01**2) / 2
    weights = 1 / np.array([tau2, tau2 + 0.01**2, tau2 + 0.01**2])
    assert found.mean == pytest.approx((weights * [0.0, 0.1, 0.1]).sum() / weights.sum())
    assert found.high - found.low > 0.1


def test_edges():
    nothing = mean_over_sets([np.nan], [0.1])
    assert math.isnan(nothing.mean)
    assert nothing[3:] == (0, 1)
    single = mean_over_sets([0.1, np.nan], [0.01, np.nan])
    assert single == (0.1, -math.inf, math.inf, 1, 1)
    exact = mean_over_sets([0.1, 0.3], [0.0, 0.0])
    assert exact.mean == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gains", "errors", "message"),
    [
        ([[0.1]], [[0.1]], "`gains` must be one-dimensional"),
        ([0.1, 0.2], [0.1], r"`errors` must have the shape \(2,\)"),
        ([0.1, 0.2], [0.1, -0.1], "`errors` must be at least 0"),
        ([0.1, 0.2], [0.1, np.nan], "`errors` must be at least 0"),
    ],
)
def test_refused(gains, errors, message):
    with pytest.raises(ValueError, match=message):
        mean_over_sets(gains, errors)
