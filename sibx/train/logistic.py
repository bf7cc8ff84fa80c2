"""Logistic regression with an L1 penalty, by accelerated proximal gradients in double precision.

Source of the algorithm: Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, SIAM J. Imaging Sciences
2, 2009, with O'Donoghue and Candes' restart (2015) where the momentum points uphill.
"""

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._precise import precise

TOLERANCE = 1e-5  # largest violation of the optimality conditions: the minimum to about 1e-7
MOST_STEPS = 20000  # a few hundred are usual


class Line(NamedTuple):
    """A linear classifier: weight (K, D) and bias (K,)."""

    weight: Tensor
    bias: Tensor


def l1_logistic(features: Tensor, labels: Tensor, classes: int, strength: float) -> Line:
    """Minimize ``mean CE(W x + b, y) + strength * sum |W|`` over W and b; the bias is not penalized.

    Args:
        features: features x, (N, D).
        labels: class indices y, (N,), with an image of every class.
        classes: number of classes K.
        strength: factor of the penalty, positive.

    Returns:
        Weight (K, D) and bias (K,), float64; with a warning if the minimum was not reached.

    Example:
        >>> x = torch.tensor([[2.0, 0.0], [1.0, 0.1], [-1.0, 0.1], [-2.0, 0.0]])
        >>> from sibx.train.logistic import l1_logistic
        >>> l1_logistic(x, torch.tensor([0, 0, 1, 1]), 2, strength=0.1).weight.round(decimals=2)
        tensor([[ 0.8900,  0.0000],
                [-0.8900,  0.0000]], dtype=torch.float64)
    """
    rows = torch.cat([precise(features), precise(features.new_ones(len(features), 1))], 1)  # the last column: the bias
    target = precise(F.one_hot(labels, classes))
    step = float(2 * len(rows) / torch.linalg.matrix_norm(rows, 2).square())  # softmax curves by at most 1/2
    penalty = rows.new_full((1, rows.shape[1]), strength)
    penalty[:, -1] = 0
    point = ahead = rows.new_zeros(classes, rows.shape[1])
    momentum = 1.0
    for _ in range(MOST_STEPS):
        gradient = _slope(ahead, rows, target)
        last, point = point, _shrink(ahead - step * gradient, step * penalty)
        if (point - ahead).abs().max() <= TOLERANCE * step:
            return Line(point[:, :-1], point[:, -1])
        if ((ahead - point) * (point - last)).sum() > 0:
            momentum = 1.0
        before, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = point + (before - 1) / momentum * (point - last)
    warnings.warn(f"l1_logistic stopped after {MOST_STEPS} steps, before its minimum", stacklevel=2)
    return Line(point[:, :-1], point[:, -1])


def _slope(point: Tensor, rows: Tensor, target: Tensor) -> Tensor:
    """Gradient (K, D + 1) of the mean cross-entropy."""
    return ((rows @ point.T).softmax(1) - target).T @ rows / len(rows)


def _shrink(values: Tensor, by: Tensor) -> Tensor:
    return values.sign() * (values.abs() - by).relu()
