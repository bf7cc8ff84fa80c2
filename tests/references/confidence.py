"""Scores of confidence pixel by pixel from their papers; ``probability`` is a function of one image (C, H, W)."""

import math

import numpy as np

from sibx import metrics
from tests.references import twin_of


def mask(heatmap):
    """Scaled by minimum and maximum to [0, 1]."""
    low, high = min(heatmap.flatten()), max(heatmap.flatten())
    scaled = np.empty_like(heatmap)
    for p in np.ndindex(heatmap.shape):
        scaled[p] = (heatmap[p] - low) / (high - low)
    return scaled


def explanation_map(image, heatmap):
    """The image times the mask, pixel by pixel."""
    weights, seen = mask(heatmap), np.empty_like(image)
    for c, y, x in np.ndindex(image.shape):
        seen[c, y, x] = image[c, y, x] * weights[y, x]
    return seen


@twin_of(metrics.average_drop)
def average_drop(clean, masked):
    return max(0, clean - masked) / clean


@twin_of(metrics.increase_in_confidence)
def increase_in_confidence(clean, masked):
    return 1 if clean < masked else 0


@twin_of(metrics.average_gain)
def average_gain(clean, masked):
    return max(0, masked - clean) / (1 - clean)


def correlation(first, second):
    pairs = list(zip(first.flatten(), second.flatten(), strict=True))
    mean_a, mean_b = sum(a for a, _ in pairs) / len(pairs), sum(b for _, b in pairs) / len(pairs)
    covariance = sum((a - mean_a) * (b - mean_b) for a, b in pairs)
    return covariance / math.sqrt(sum((a - mean_a) ** 2 for a, _ in pairs) * sum((b - mean_b) ** 2 for _, b in pairs))


@twin_of(metrics.adcc)
def adcc(probability, explain, image, heatmap):
    """Poppi et al. 2021, equation by equation."""
    seen = explanation_map(image, heatmap)
    coherency = (correlation(heatmap, explain(seen)) + 1) / 2
    complexity = sum(mask(heatmap).flatten()) / heatmap.size
    drop = average_drop(probability(image), probability(seen))
    return 3 * (coherency**-1 + (1 - complexity) ** -1 + (1 - drop) ** -1) ** -1
