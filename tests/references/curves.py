"""Perturbation curves and their scores, pixel by pixel from their papers."""

import numpy as np


def ordered(heatmap, places):
    """Pixels from the largest value to the smallest; of equal ones first that with the lower place."""
    flat = heatmap.flatten()
    order = sorted(range(flat.size), key=lambda i: (-flat[i], places[i]))
    return [np.unravel_index(i, heatmap.shape) for i in order]


def curve(probability, start, end, order, steps):
    """Replace pixels of start (C, H, W) by those of end in this order: true fractions and probabilities."""
    fractions, probabilities = [], []
    for step in range(steps + 1):
        count = round(step * len(order) / steps)
        frame = start.copy()
        for y, x in order[:count]:
            frame[:, y, x] = end[:, y, x]
        fractions.append(count / len(order))
        probabilities.append(probability(frame))
    return fractions, probabilities


def area(fractions, probabilities):
    total = 0.0
    for i in range(len(fractions) - 1):
        total += (fractions[i + 1] - fractions[i]) * (probabilities[i] + probabilities[i + 1]) / 2
    return total


def srg(probability, image, baseline, order, steps):
    """Least relevant pixels first minus most relevant pixels first."""
    morf = curve(probability, image, baseline, order, steps)
    lerf = curve(probability, image, baseline, order[::-1], steps)
    return area(*lerf) - area(*morf)


def aopc(probabilities):
    """Mean over k = 0, ..., L of f(x_0) - f(x_k)."""
    total = 0.0
    for p in probabilities:
        total += probabilities[0] - p
    return total / len(probabilities)
