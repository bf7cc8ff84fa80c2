"""Complexity scores, value by value from their papers."""

import math

from sibx import metrics
from tests.references import twin_of


@twin_of(metrics.sparseness)
def sparseness(values):
    """Chalasani 2020, definition of the Gini index: 1 - 2 sum_k v_k / |v|_1 (d - k + 1/2) / d, ascending."""
    magnitudes = sorted(abs(v) for v in values)
    size, total = len(magnitudes), sum(magnitudes)
    return 1 - 2 * sum(v / total * (size - k + 0.5) / size for k, v in enumerate(magnitudes, start=1))


@twin_of(metrics.entropy)
def entropy(values):
    """Bhatt 2020: the entropy of the fractional contributions."""
    total = sum(abs(v) for v in values)
    shares = [abs(v) / total for v in values]
    return -sum(p * math.log(p) for p in shares if p > 0)


@twin_of(metrics.effective_complexity)
def effective_complexity(values, tolerance):
    largest = max(abs(v) for v in values)
    return sum(abs(v) > tolerance * largest for v in values) / len(values)
