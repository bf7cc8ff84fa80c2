"""What may be claimed of a gain: of one training over images, of several over both."""

import numpy as np
import pandas as pd
import pytest

from sibx.evaluation import (
    bootstrap_mean,
    mean_over_seeds_and_images,
    p_value_over_seeds_and_images,
    paired_gain,
    wilcoxon_signed_rank,
)


def pairs(values, seeds):
    """Differences (images, seeds) as a series, an image after the other; images are named against their order."""
    names = [f"{len(values) - i:03d}" for i in range(len(values))]
    index = pd.MultiIndex.from_product([["set"], names, seeds], names=["dataset", "image_id", "seed"])
    return pd.Series(np.ravel(values), index)


def draw(images, seeds, undefined=0.0):
    random = np.random.default_rng(0)
    values = random.normal(0.2, 1, (images, seeds))
    values[random.random(values.shape) < undefined] = np.nan
    return values


def test_one_seed():
    values = draw(30, 1, 0.2)
    gain = paired_gain(pairs(values, [7]))
    assert gain.interval == gain.these == bootstrap_mean(values[:, 0])
    assert gain.p_value == wilcoxon_signed_rank(values[:, 0], np.zeros(30)).p_value
    assert gain.seeds == 1


def test_several_seeds():
    values = draw(30, 4, 0.2)
    values[3] = np.nan
    gain = paired_gain(pairs(values, [0, 3, 5, 9]))
    assert gain.interval == mean_over_seeds_and_images(values)
    assert gain.interval.undefined == 1
    assert gain.p_value == p_value_over_seeds_and_images(values)
    assert gain.these == bootstrap_mean(pd.DataFrame(values).mean(axis=1).to_numpy())
    assert gain.seeds == 4


def test_order_and_missing_pairs_do_not_matter():
    values = draw(30, 3, 0.2)
    series = pairs(values, [0, 1, 2])
    shuffled = paired_gain(series.dropna().sample(frac=1, random_state=0))
    assert shuffled.interval[:3] == pytest.approx(paired_gain(series).interval[:3])


def test_a_seed_without_a_pair_does_not_count():
    values = draw(30, 2)
    values[:, 1] = np.nan
    gain = paired_gain(pairs(values, [0, 1]))
    assert (gain.seeds, gain.interval) == (1, bootstrap_mean(values[:, 0]))
    nothing = paired_gain(pairs(np.full((4, 2), np.nan), [0, 1]))
    assert (nothing.seeds, nothing.interval.n, nothing.interval.undefined) == (0, 0, 4)
    assert np.isnan(nothing.p_value)


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ([("a", 0), ("b", 0), ("a", 0)], r"name every image and seed, once, but got \[\('a', 0\)\]"),
        ([("a", 0), ("a", 1), ("a", 1)], "name every image and seed, once"),
        ([("a", 0), ("a", np.nan)], "name every image and seed, once"),
        ([(np.nan, 0), ("a", 0)], "name every image and seed, once"),
    ],
)
def test_lines_that_nothing_tells_apart_are_refused(lines, rule):
    index = pd.MultiIndex.from_tuples(lines, names=["image_id", "seed"])
    with pytest.raises(ValueError, match=f"`differences` must {rule}"):
        paired_gain(pd.Series(0.1, index))
    with pytest.raises(ValueError, match="`differences` must have an index whose levels"):
        paired_gain(pd.Series(0.1, index.droplevel("seed")))
