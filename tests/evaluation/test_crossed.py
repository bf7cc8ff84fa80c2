"""A mean for other images and other trainings: its interval and its test, against their definition."""

import numpy as np
import pytest

from sibx.evaluation import mean_over_seeds, mean_over_seeds_and_images, p_value_over_seeds_and_images
from tests.references import statistics as reference


def draw(seed, images=9, seeds=4, undefined=0.0, gain=0.0):
    random = np.random.default_rng(seed)
    values = gain + random.normal(size=(images, seeds)) + random.normal(size=seeds) / 2
    values[random.random(values.shape) < undefined] = np.nan
    return values


def named(values):
    return {(s, i): value for (i, s), value in np.ndenumerate(values)}


@pytest.mark.parametrize("seed", range(12))
def test_is_its_definition(seed):
    values = draw(seed, 4 + seed, 2 + seed % 4, undefined=0.2 * (seed % 2), gain=seed / 10)
    for level in (0.95, 0.5):
        found = mean_over_seeds_and_images(values, level=level)
        assert found[:3] == pytest.approx(reference.over_seeds_and_images(named(values), level))
    assert (found.n, found.undefined) == ((~np.isnan(values)).any(1).sum(), np.isnan(values).all(1).sum())
    expected = reference.p_over_seeds_and_images(named(values))
    assert p_value_over_seeds_and_images(values) == pytest.approx(expected, abs=1e-9)
    assert p_value_over_seeds_and_images(-values) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_p_and_interval_say_the_same(seed):
    values = draw(seed, gain=0.6)
    for level in (0.9, 0.95, 0.99):
        excludes = mean_over_seeds_and_images(values, level=level).excludes_zero
        assert excludes == (p_value_over_seeds_and_images(values) < 1 - level)


def test_never_narrower_than_either():
    values = draw(0)
    found = mean_over_seeds_and_images(values)
    for means in (values.mean(0), values.mean(1)):
        alone = mean_over_seeds(means)
        assert found.mean == pytest.approx(alone.mean)
        assert found.low < alone.low < alone.high < found.high


def test_is_that_over_images_where_trainings_agree_and_the_other_way_round():
    images = np.array([0.1, 0.4, 0.2, 0.3])
    alike = np.repeat(images[:, None], 3, 1)
    assert mean_over_seeds_and_images(alike) == pytest.approx(mean_over_seeds(images))
    assert mean_over_seeds_and_images(alike.T)[:3] == pytest.approx(mean_over_seeds(images)[:3])


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1)])
def test_one_says_nothing_of_others(shape):
    values = np.full(shape, 0.5)
    assert mean_over_seeds_and_images(values) == (0.5, -np.inf, np.inf, shape[0], 0)
    assert p_value_over_seeds_and_images(values) == 1


def test_without_spread_and_without_values():
    assert mean_over_seeds_and_images(np.full((4, 3), 0.5)) == (0.5, 0.5, 0.5, 4, 0)
    assert p_value_over_seeds_and_images(np.full((4, 3), 0.5)) == 0
    assert p_value_over_seeds_and_images(np.zeros((4, 3))) == 1
    nothing = mean_over_seeds_and_images(np.full((4, 3), np.nan))
    assert np.isnan(nothing[:3]).all()
    assert nothing[3:] == (0, 4)
    assert np.isnan(p_value_over_seeds_and_images(np.full((4, 3), np.nan)))


def test_p_of_a_gain_beyond_doubt_is_small_and_a_number():
    assert 0 < p_value_over_seeds_and_images(10 + draw(0, 80, 5)) < 1e-4


def test_errors():
    for function in (mean_over_seeds_and_images, p_value_over_seeds_and_images):
        with pytest.raises(ValueError, match="`values` must be two-dimensional, images x trainings"):
            function(np.zeros(3))
    with pytest.raises(ValueError, match="`level` must lie in"):
        mean_over_seeds_and_images(np.zeros((2, 2)), level=1.5)
