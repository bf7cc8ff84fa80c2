"""How often does an interval of a gain hold the gain that is true? A simulation, with nothing from this package.

The gain of training s on image i is ``m + t_s + a_i + e_si``: t is what the training adds (standard deviation tau), a
what the image adds, the same in every training, and e what is left; a and e together have variance 1, and ``share`` of
it is a's. There are three questions, and an interval cannot answer all of them:

- **new**: m, what other trainings would gain on other images. It is what "S-IB helps" means.
- **same images**: m plus the mean of a, what other trainings would gain on these images.
- **same trainings**: m plus the mean of t, what these trainings would gain on other images.

Rules (nominal 95 %), from the means over images of every seed, and the means over seeds of every image:

- ``images``: percentile bootstrap over images of the means over seeds.
- ``seeds``: Student over seeds.
- ``two-level``: percentile bootstrap that draws seeds and images; an image drawn is drawn for every seed.
- ``satterthwaite``: both variances added, Student with Satterthwaite's degrees of freedom.
- ``fewest``: both variances added, Student with one degree of freedom less than there are seeds.
- ``both``: the two half widths of Student, over seeds and over images, added in squares (Banerjee 1960).

    python benchmarks/experiments/coverage.py

Half a minute of one core; writes ``coverage.csv`` beside this file, and prints the lowest coverage over cases, images
and tau, and widths.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

Array = npt.NDArray[np.float64]
SEEDS, IMAGES, TAUS = (2, 3, 5, 12), (40, 80, 200), (0.0, 0.05, 0.2, 1.0)
REPETITIONS, RESAMPLES = 2000, 400
TAIL = 0.025  # on either side
CASES = {"normal": (0.5, False), "images alike": (0.9, False), "heavy tails": (0.5, True)}  # share, heavy


class World(NamedTuple):
    """Many repetitions of a study whose true gain is 0: gains (R, S, N), and what the trainings and the images add."""

    gains: Array
    of_trainings: Array  # (R,), the mean of t
    of_images: Array  # (R,), the mean of a


class Means(NamedTuple):
    """What the rules see: the gains (R, S, N), their means by seed (R, S) and by image (R, N), the mean, and errors."""

    gains: Array
    seeds: Array
    images: Array
    mean: Array
    seed_variance: Array  # (R,), of the mean over seeds
    image_variance: Array


def draw(random: np.random.Generator, repetitions: int, seeds: int, images: int, tau: float, case: str) -> World:
    """Draw studies; heavy tails are Student's with three degrees of freedom, scaled to the same variance."""
    share, heavy = CASES[case]

    def noise(*shape: int) -> Array:
        return random.standard_t(3, shape) / 3**0.5 if heavy else random.standard_normal(shape)

    training, image = tau * noise(repetitions, seeds, 1), share**0.5 * noise(repetitions, 1, images)
    gains = training + image + (1 - share) ** 0.5 * noise(repetitions, seeds, images)
    return World(gains, training.mean((1, 2)), image.mean((1, 2)))


def summarize(gains: Array) -> Means:
    """Take the means."""
    seeds, images = gains.mean(2), gains.mean(1)
    return Means(
        gains=gains,
        seeds=seeds,
        images=images,
        mean=seeds.mean(1),
        seed_variance=seeds.var(1, ddof=1) / seeds.shape[1],
        image_variance=images.var(1, ddof=1) / images.shape[1],
    )


def over_images(means: Means) -> Array:
    """Bootstrap over images."""
    return _quantiles(means.images @ _counts(means.images.shape[1]).T)


def over_seeds(means: Means) -> Array:
    """Student over seeds."""
    return _around(means.mean, _student(means.seeds.shape[1]) * means.seed_variance**0.5)


def two_level(means: Means) -> Array:
    """Bootstrap over both; the weight of a gain is how often its seed was drawn times how often its image was."""
    _, seeds, images = means.gains.shape
    by_seed = means.gains @ _counts(images).T  # (R, S, resamples)
    return _quantiles(np.einsum("rsk,ks->rk", by_seed, _counts(seeds)))


def satterthwaite(means: Means) -> Array:
    """Student with the degrees of freedom that a sum of two variances has about."""
    _, seeds, images = means.gains.shape
    variance = means.seed_variance + means.image_variance
    freedom = variance**2 / (means.seed_variance**2 / (seeds - 1) + means.image_variance**2 / (images - 1))
    return _around(means.mean, student.isf(TAIL, freedom) * variance**0.5)


def fewest(means: Means) -> Array:
    """Student with the degrees of freedom of the seeds."""
    variance = means.seed_variance + means.image_variance
    return _around(means.mean, _student(means.seeds.shape[1]) * variance**0.5)


def both(means: Means) -> Array:
    """Half widths added in squares."""
    _, seeds, images = means.gains.shape
    of_seeds, of_images = _student(seeds) * means.seed_variance**0.5, _student(images) * means.image_variance**0.5
    return _around(means.mean, np.hypot(of_seeds, of_images))


RULES: dict[str, Callable[[Means], Array]] = {
    "images": over_images,
    "seeds": over_seeds,
    "two-level": two_level,
    "satterthwaite": satterthwaite,
    "fewest": fewest,
    "both": both,
}


def simulate(repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Return coverage and mean width by case, seeds, images, tau and rule."""
    return pd.DataFrame(line for cell in product(CASES, SEEDS, IMAGES, TAUS) for line in _cell(repetitions, *cell))


def _cell(repetitions: int, case: str, seeds: int, images: int, tau: float) -> Iterator[dict[str, object]]:
    random = np.random.default_rng([list(CASES).index(case), seeds, images, round(1000 * tau)])
    world = draw(random, repetitions, seeds, images, tau, case)
    truths = {"new": 0.0, "same images": world.of_images, "same trainings": world.of_trainings}
    means = summarize(world.gains)
    for rule, interval in RULES.items():
        low, high = interval(means)
        held = {name: float(((low <= truth) & (truth <= high)).mean()) for name, truth in truths.items()}
        cell = {"case": case, "seeds": seeds, "images": images, "tau": tau, "rule": rule}
        yield cell | held | {"width": float((high - low).mean())}


def lowest(table: pd.DataFrame, question: str) -> pd.DataFrame:
    """The lowest coverage over cases, images and tau: one row per rule, one column per number of seeds."""
    return table.groupby(["rule", "seeds"], sort=False, observed=True)[question].min().unstack("seeds")


def widths(table: pd.DataFrame, images: int = 80) -> pd.DataFrame:
    """The mean width in the normal case: one row per rule, one column per tau and number of seeds."""
    normal = table[(table["case"] == "normal") & (table["images"] == images)]
    return normal.set_index(["rule", "tau", "seeds"])["width"].unstack(["tau", "seeds"]).loc[list(RULES)]


def _counts(things: int) -> Array:
    """How often each of the things is drawn, (resamples, things), as a share; the same draws in every study."""
    random = np.random.default_rng(things)
    draws = random.integers(things, size=(RESAMPLES, things))
    return np.stack([np.bincount(line, minlength=things) for line in draws]) / things


def _student(things: int) -> float:
    return float(student.isf(TAIL, things - 1))


def _around(mean: Array, reach: Array) -> Array:
    return np.stack([mean - reach, mean + reach])


def _quantiles(means: Array) -> Array:
    return np.quantile(means, [TAIL, 1 - TAIL], axis=1)


def main() -> None:
    """Write the table and print what it comes to."""
    table = simulate()
    table.to_csv(Path(__file__).with_name("coverage.csv"), index=False, float_format="%.4g", lineterminator="\n")
    for question in ("new", "same images", "same trainings"):
        print(f"\nlowest coverage of: {question}\n{lowest(table, question).to_string(float_format='{:.2f}'.format)}")
    print(f"\nmean width, normal, 80 images\n{widths(table).to_string(float_format='{:.2f}'.format)}")


if __name__ == "__main__":
    main()
