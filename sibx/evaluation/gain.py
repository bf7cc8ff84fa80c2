"""What one training gains over another: the one rule by which everything that is claimed here is decided."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sibx._checks import require
from sibx.evaluation.crossed import mean_over_seeds_and_images, p_value_over_seeds_and_images
from sibx.evaluation.photographs import influences, means_of, photographs_of
from sibx.evaluation.significance import wilcoxon_signed_rank
from sibx.evaluation.statistics import Array, Interval, bootstrap_mean


class Gain(NamedTuple):
    """A mean paired difference and what it says.

    Attributes:
        interval: the mean difference with its 95 % interval. With one seed for other images and this training; with
            several for other images and other trainings.
        these: the same for other images and these trainings alone; with one seed there is no other.
        p_value: two-sided, of the question that ``interval`` answers.
        seeds: how many have a pair.
        error: standard error of the mean, of what ``interval`` speaks for: over images, and from two seeds on over
            seeds too, added in squares; 0 for a single image.
        rows: rows with a pair in any seed, of the ``n`` photographs of the intervals.
    """

    interval: Interval
    these: Interval
    p_value: float
    seeds: int
    error: float
    rows: int


def paired_gain(differences: pd.Series) -> Gain:
    """Estimate a mean difference from pairs of one or several seeds.

    With one seed: the bootstrap over images (``bootstrap_mean``) and Wilcoxon's signed-rank test, which speak for this
    training. From two seeds on: ``mean_over_seeds_and_images`` and its test, which take the spread between trainings
    into account; two seeds are allowed, and say little: Student's factor is 12.7 then, 4.3 with three seeds, 2.8 with
    five.

    Args:
        differences: one value per image and seed, NaN where it is undefined. The index has a level ``seed``; its other
            levels name the image. If one of them is ``photo``, photographs with several rows are the unit: they are
            resampled, they are tested by their means, and they are what intervals count.

    Returns:
        Gain. A row counts as undefined if no seed has a pair of it.

    Raises:
        ValueError: an index without these levels, or one that names an image and seed twice, or none.

    >>> import pandas as pd
    >>> index = pd.MultiIndex.from_product([["cat", "dog", "fox"], [0, 1]], names=["image_id", "seed"])
    >>> gain = paired_gain(pd.Series([0.10, 0.14, 0.20, 0.22, 0.30, 0.30], index))
    >>> f"{gain.interval:.2f}", f"{gain.these:.2f}", gain.seeds
    ('0.21 [-0.05, 0.47]', '0.21 [0.12, 0.30]', 2)
    """
    _check_index(differences.index)
    of_images, values = _over_seeds(differences)
    seeds = int((~np.isnan(values)).any(0).sum())
    photos, means = photographs_of(of_images.index), of_images.to_numpy()
    these, rows = bootstrap_mean(means, photos=photos), int((~np.isnan(means)).sum())
    error = _error(influences(means[:, None], photos)[:, 0])
    if seeds < 2:
        of_photos = means_of(means, photos)
        p_value = wilcoxon_signed_rank(of_photos, np.zeros(len(of_photos))).p_value
        return Gain(interval=these, these=these, p_value=p_value, seeds=seeds, error=error, rows=rows)
    of_seeds = pd.DataFrame(values).mean().to_numpy()
    units = influences(values, photos)
    return Gain(
        interval=mean_over_seeds_and_images(units)._replace(undefined=these.undefined),
        these=these,
        p_value=p_value_over_seeds_and_images(units),
        seeds=seeds,
        error=float(np.hypot(error, _error(of_seeds))),
        rows=rows,
    )


def _check_index(index: pd.Index) -> None:
    """Require that lines are told apart: twice the same, or without a name, they would count as other images."""
    rule = "have an index whose levels are `seed` and what names an image"
    require(isinstance(index, pd.MultiIndex) and "seed" in index.names, "differences", rule, list(index.names))
    assert isinstance(index, pd.MultiIndex)
    wrong = index.duplicated() | np.any([codes < 0 for codes in index.codes], axis=0)
    require(not wrong.any(), "differences", "name every image and seed, once", index[wrong][:1].tolist())


def _over_seeds(differences: pd.Series) -> tuple[pd.Series, Array]:
    """Return the mean of every image, in order of first appearance, and the values (images, seeds)."""
    if differences.index.get_level_values("seed").nunique() == 1:
        of_images = differences.droplevel("seed")
        return of_images, of_images.to_numpy()[:, None]
    image = [name for name in differences.index.names if name != "seed"]
    of_images = differences.groupby(level=image, sort=False, observed=True).mean()
    return of_images, differences.unstack("seed").loc[of_images.index].to_numpy()


def _error(values: Array) -> float:
    """Standard error of the mean of the defined values."""
    defined = values[~np.isnan(values)]
    return float(defined.std(ddof=1)) / len(defined) ** 0.5 if len(defined) > 1 else 0.0
