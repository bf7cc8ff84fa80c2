"""Faithfulness and stability from their papers, pixel by pixel; ``output`` is a function of one image (C, H, W)."""

import math

import numpy as np

from sibx import metrics
from tests.references import twin_of


def without(image, baseline, pixels):
    """The image with these pixels (y, x) of all channels taken from the baseline."""
    changed = image.copy()
    for y, x in pixels:
        changed[:, y, x] = baseline[:, y, x]
    return changed


def correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b))


@twin_of(metrics.irof)
def irof(output, image, heatmap, segments, baseline):
    """Rieger and Hansen 2020 for maps without ties: remove whole segments, the most relevant on average first."""
    members = {}
    for place in np.ndindex(segments.shape):
        members.setdefault(segments[place], []).append(place)
    relevance = {label: sum(heatmap[p] for p in places) / len(places) for label, places in members.items()}
    curve, gone = [1.0], []
    for label in sorted(members, key=lambda s: -relevance[s]):
        gone += members[label]
        curve.append(output(without(image, baseline, gone)) / output(image))
    steps = len(curve) - 1
    return 1 - sum((curve[k] + curve[k + 1]) / 2 / steps for k in range(steps))


@twin_of(metrics.single_deletion)
def single_deletion(output, image, attributions, segments, baseline):
    """Hesse 2023, equation 3 without its (1 + r) / 2, for values without ties: Spearman's correlation over parts."""
    parts = [[p for p in np.ndindex(segments.shape) if segments[p] == label] for label in np.unique(segments)]
    sums = [sum(attributions[p] for p in part) for part in parts]
    falls = [output(image) - output(without(image, baseline, part)) for part in parts]
    ranks = [[sorted(values).index(v) for v in values] for values in (sums, falls)]
    return correlation(*ranks)


@twin_of(metrics.sensitivity_n)
def sensitivity_n(output, image, attributions, baseline, sets):
    """Ancona 2018, for sets of n pixels (y, x): Pearson's correlation of sum R_i with S(x) - S(x without them)."""
    sums = [sum(attributions[p] for p in pixels) for pixels in sets]
    falls = [output(image) - output(without(image, baseline, pixels)) for pixels in sets]
    return correlation(sums, falls)


@twin_of(metrics.infidelity)
def infidelity(output, image, attributions, baseline, squares):
    """Yeh 2019, definition 2.1 with I = the pixels of a square, and the scaling that minimizes it."""
    products = [sum(attributions[p] for p in square) for square in squares]
    falls = [output(image) - output(without(image, baseline, square)) for square in squares]
    beta = sum(p * f for p, f in zip(products, falls, strict=True)) / sum(p * p for p in products)
    return sum((beta * p - f) ** 2 for p, f in zip(products, falls, strict=True)) / len(squares)


@twin_of(metrics.completeness)
def completeness(output, image, attributions, baseline):
    """Sundararajan 2017, proposition 1: how far the sum is from F(x) - F(x'), as a share of it."""
    change = output(image) - output(baseline)
    return abs(sum(attributions.flatten()) - change) / abs(change)


@twin_of(metrics.max_sensitivity)
def max_sensitivity(explain, heatmap, neighbors):
    """Yeh 2019, definition 3.1 over these images, divided by the norm of the heatmap."""

    def norm(values):
        return math.sqrt(sum(v * v for v in values.flatten()))

    return max(norm(explain(y) - heatmap) for y in neighbors) / norm(heatmap)


def relative_change(a, b):
    """The norm of (a - b) / a, value by value."""
    return math.sqrt(sum(((q - p) / max(abs(p), 1e-6)) ** 2 for p, q in zip(a.flatten(), b.flatten(), strict=True)))


def most_unstable(explain, heatmap, neighbors, predict, size):
    """Agarwal 2022, equations 2, 3 and 5: the largest change of the explanation over the size of another change."""
    scale = heatmap.max()
    return max(
        relative_change(heatmap / scale, explain(y) / scale) / size(y)
        for y in neighbors
        if predict(y) and size(y) > 1e-6
    )


@twin_of(metrics.relative_input_stability)
def relative_input_stability(explain, heatmap, neighbors, predict, image):
    return most_unstable(explain, heatmap, neighbors, predict, lambda y: relative_change(image, y))


@twin_of(metrics.relative_output_stability)
def relative_output_stability(explain, heatmap, neighbors, predict, logits, image):
    def size(y):
        return math.sqrt(sum((p - q) ** 2 for p, q in zip(logits(image), logits(y), strict=True)))

    return most_unstable(explain, heatmap, neighbors, predict, size)


@twin_of(metrics.relative_representation_stability)
def relative_representation_stability(explain, heatmap, neighbors, predict, features, image):
    return most_unstable(explain, heatmap, neighbors, predict, lambda y: relative_change(features(image), features(y)))
