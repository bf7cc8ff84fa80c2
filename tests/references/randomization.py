"""Sanity checks and what they compare maps by, straight from their papers, with loops."""

import copy
import math

import numpy as np

from sibx import metrics
from tests.references import twin_of


def mean_ranks(values):
    """Rank of every value, 1 = smallest; values that tie get the mean of their places."""
    places = {}
    for place, value in enumerate(sorted(values), start=1):
        places.setdefault(value, []).append(place)
    return [sum(places[v]) / len(places[v]) for v in values]


@twin_of(metrics.spearman)
def spearman(a, b):
    """Pearson's correlation of the ranks."""
    x, y = mean_ranks(a), mean_ranks(b)
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    cov = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
    return cov / math.sqrt(sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y))


@twin_of(metrics.ssim)
def ssim(a, b):
    """Wang 2004, equation 13 in every 11 x 11 window, Gaussian weights with sigma 1.5; maps with a maximum of 1."""
    a, b = a / a.max(), b / b.max()
    weights = np.array([[math.exp(-(y * y + x * x) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)])
    weights /= weights.sum()
    values = []
    for y, x in np.ndindex(a.shape[0] - 10, a.shape[1] - 10):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
        cov = (weights * (p - mean_p) * (q - mean_q)).sum()
        c1, c2 = 0.01**2, 0.03**2
        numerator = (2 * mean_p * mean_q + c1) * (2 * cov + c2)
        values.append(numerator / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2)))
    return sum(values) / len(values)


@twin_of(metrics.histogram_entropy)
def histogram_entropy(values, bins):
    low, high = min(values), max(values)
    counts = [0] * bins
    for v in values:
        counts[min(int((v - low) / (high - low) * bins), bins - 1)] += 1
    return -sum(c / len(values) * math.log(c / len(values)) for c in counts if c)


def randomized_models(model, layers, draw, order):
    """Adebayo 2018: the trained model with its first, its first two, ... layers random, or with one each."""
    for i in range(len(layers)):
        network = copy.deepcopy(model)
        for layer in layers[: i + 1] if order == "cascading" else [layers[i]]:
            draw(network, layer)
        yield network


@twin_of(metrics.smoothed)
def smoothed(explain, image, target, draws, noise):
    """Hedstroem 2024: the mean explanation of x + eta, eta ~ N(0, sigma), sigma = noise (max x - min x)."""
    sigma = noise * (image.max() - image.min())
    return sum(explain(image + sigma * draw, target) for draw in draws) / len(draws)


@twin_of(metrics.randomization)
def randomization(similarity, explain_with, heatmap, networks):
    """Adebayo 2018: similarity of the map to that of every randomized network, and the mean."""
    similarities = [similarity(heatmap, explain_with(network)) for network in networks]
    return similarities, sum(similarities) / len(similarities)


@twin_of(metrics.complexity_rise)
def complexity_rise(before, after, bins):
    """Hedstroem 2024, eMPRT."""
    return (histogram_entropy(after, bins) - histogram_entropy(before, bins)) / histogram_entropy(before, bins)


@twin_of(metrics.random_logit)
def random_logit(explain, heatmap, other):
    """Sixt 2020: similarity to the map of another class."""
    return ssim(heatmap, explain(other))
