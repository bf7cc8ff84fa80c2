"""Tests and rankings, from their definitions: every sign, every image, every pair."""

import itertools
import math

import numpy as np
from scipy.stats import t as student


def mean_ranks_of(values):
    """1 + how many are smaller + half of how many others are equal."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def wilcoxon_exact(differences):
    """The smaller rank sum, and twice the share of all signs whose positive rank sum is at most that."""
    kept = [d for d in differences if d != 0 and not math.isnan(d)]
    ranks = mean_ranks_of([abs(d) for d in kept])
    positive = sum(r for r, d in zip(ranks, kept, strict=True) if d > 0)
    statistic = min(positive, sum(ranks) - positive)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(ranks))]
    return statistic, min(1, 2 * sum(s <= statistic for s in sums) / len(sums))


def holm(p_values):
    """Step down: test the smallest at level / m, the next at level / (m - 1), ..., and stop at the first that fails.

    The adjusted p value of a test is the smallest level at which it is rejected.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    levels = sorted({0.0, 1.0, *(min(1.0, (len(p_values) - j) * p_values[i]) for j, i in enumerate(order))})

    def rejected(level):
        found = set()
        for j, i in enumerate(order):
            if p_values[i] * (len(p_values) - j) > level:
                break
            found.add(i)
        return found

    return [next((level for level in levels if i in rejected(level)), 1.0) for i in range(len(p_values))]


def friedman(scores, higher_is_better):
    """Mean ranks and chi squared with Demsar's formula, divided by the correction for ties; NaN is left out."""
    rows = [mean_ranks_of([-s if higher_is_better else s for s in row]) for row in scores if not np.isnan(row).any()]
    n, k = len(rows), len(rows[0])
    means = [sum(row[j] for row in rows) / n for j in range(k)]
    chi = 12 * n / (k * (k + 1)) * (sum(m**2 for m in means) - k * (k + 1) ** 2 / 4)
    ties = sum(t**3 - t for row in rows for t in [row.count(r) for r in set(row)])
    correction = 1 - ties / (n * (k**3 - k))
    return means, chi / correction if correction else 0.0


def spearman(x, y):
    """Pearson's correlation of the ranks, over images that both define."""
    both = [(a, b) for a, b in zip(x, y, strict=True) if not (math.isnan(a) or math.isnan(b))]
    if len(both) < 2:
        return math.nan, len(both)
    p, q = (np.array(mean_ranks_of(side)) for side in zip(*both, strict=True))
    p, q = p - p.mean(), q - q.mean()
    scale = math.sqrt((p**2).sum() * (q**2).sum())
    return ((p * q).sum() / scale if scale else math.nan), len(both)


def over_seeds(values, others):
    """Mean over seeds of the mean paired difference of a seed's images, half the width of its interval, and the seeds.

    Args:
        values: (seed, image) -> value.
        others: likewise, of the reference.
    """
    gains = {}
    for (seed, image), value in values.items():
        other = others.get((seed, image), math.nan)
        if not math.isnan(value - other):
            gains.setdefault(seed, []).append(value - other)
    means = [sum(of_seed) / len(of_seed) for of_seed in gains.values()]
    n, mean = len(means), sum(means) / len(means)
    deviation = math.sqrt(sum((m - mean) ** 2 for m in means) / (n - 1))
    # Of Student's t, 97.5 %, n - 1 degrees of freedom.
    quantile = {2: 12.706204736432095, 3: 4.302652729911275, 4: 3.182446305284263}[n]
    return mean, quantile * deviation / math.sqrt(n), n


def over_seeds_and_images(values, level=0.95):
    """Mean of the seeds' means, and the interval: what Student reaches over seeds and over images, added in squares.

    Args:
        values: (seed, image) -> value.
        level: coverage of the interval.
    """
    defined = {key: value for key, value in values.items() if not math.isnan(value)}

    def means(place):
        found = {}
        for key, value in defined.items():
            found.setdefault(key[place], []).append(value)
        return [sum(of_one) / len(of_one) for of_one in found.values()]

    def reach(these):
        n, mean = len(these), sum(these) / len(these)
        error = math.sqrt(sum((m - mean) ** 2 for m in these) / (n - 1) / n)
        return student.ppf(1 - (1 - level) / 2, n - 1) * error

    of_seeds, of_images = means(0), means(1)
    mean, half = sum(of_seeds) / len(of_seeds), math.sqrt(reach(of_seeds) ** 2 + reach(of_images) ** 2)
    return mean, mean - half, mean + half


def p_over_seeds_and_images(values):
    """Halve the range of levels until it is found where 0 leaves the interval: 1 - that level."""
    low, high = 0.0, 1.0
    for _ in range(60):
        level = (low + high) / 2
        _, below, above = over_seeds_and_images(values, level)
        low, high = (low, level) if below <= 0 <= above else (level, high)
    return 1 - low
