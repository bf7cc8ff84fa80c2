"""Complexity scores, value by value from their papers."""

import math


def sparseness(values):
    """Chalasani 2020, definition of the Gini index: 1 - 2 sum_k v_k / |v|_1 (d - k + 1/2) / d, ascending."""
    magnitudes = sorted(abs(v) for v in values)
    size, total = len(magnitudes), sum(magnitudes)
    return 1 - 2 * sum(v / total * (size - k + 0.5) / size for k, v in enumerate(magnitudes, start=1))


def entropy(values):
    """Bhatt 2020: the entropy of the fractional contributions."""
    total = sum(abs(v) for v in values)
    shares = [abs(v) / total for v in values]
    return -sum(p * math.log(p) for p in shares if p > 0)


def effective_complexity(values, tolerance):
    largest = max(abs(v) for v in values)
    return sum(abs(v) > tolerance * largest for v in values) / len(values)
