"""HSIC from its definitions: centering matrices, sums over index tuples, kernels by loops."""

from itertools import permutations
from math import perm

import torch


def linear(rows):
    return torch.stack([torch.stack([(x * y).sum() for y in rows]) for x in rows])


def bandwidth(rows):
    """The lower median of |x_i - x_j|^2 over pairs i < j."""
    n = len(rows)
    squared = sorted(float(((rows[i] - rows[j]) ** 2).sum()) for i in range(n) for j in range(i + 1, n))
    return squared[(len(squared) - 1) // 2]


def gaussian(rows, width=None):
    """exp(-|x - y|^2 / (2 width)) for every pair."""
    width = bandwidth(rows) if width is None else width
    return torch.stack([torch.stack([torch.exp(-((x - y) ** 2).sum() / (2 * width)) for y in rows]) for x in rows])


def biased(k, m):
    """Gretton et al. 2005: tr(K H M H) / (n - 1)^2."""
    n = len(k)
    center = torch.eye(n, dtype=k.dtype) - torch.ones(n, n, dtype=k.dtype) / n
    return torch.trace(k @ center @ m @ center) / (n - 1) ** 2


def unbiased(k, m):
    """Song et al. 2012 as a U-statistic: every average runs over distinct indices."""
    n = range(len(k))
    pairs = sum(k[i, j] * m[i, j] for i, j in permutations(n, 2)) / perm(len(k), 2)
    quadruples = sum(k[i, j] * m[q, r] for i, j, q, r in permutations(n, 4)) / perm(len(k), 4)
    triples = sum(k[i, j] * m[i, q] for i, j, q in permutations(n, 3)) / perm(len(k), 3)
    return pairs + quadruples - 2 * triples


def unbiased_closed(k, m):
    """Song et al. 2012, the estimator with zeroed diagonals."""
    n = len(k)
    k, m = k - torch.diag(torch.diag(k)), m - torch.diag(torch.diag(m))
    total = torch.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
    return total / (n * (n - 3))
