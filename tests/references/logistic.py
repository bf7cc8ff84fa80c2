"""L1-regularized logistic regression as a smooth problem: W = U - V with U, V >= 0, by scipy's L-BFGS-B."""

import numpy as np
import torch
from scipy.optimize import minimize


def objective(weight, bias, features, labels, strength):
    """mean CE + strength * sum |W|, one image at a time."""
    total = 0.0
    for row, label in zip(features, labels.tolist(), strict=True):
        scores = [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
        total += torch.stack(scores).logsumexp(0) - scores[label]
    return total / len(features) + strength * sum(w.abs() for w in weight.flatten())


def fit(features, labels, classes, strength):
    """Weight (K, D) and bias (K,) of the minimum."""
    x, y = features.numpy(), np.eye(classes)[labels.numpy()]
    count = classes * x.shape[1]

    def value_and_slope(flat):
        u, v, bias = flat[:count], flat[count : 2 * count], flat[2 * count :]
        scores = x @ (u - v).reshape(classes, -1).T + bias
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        slope = ((p - y).T @ x / len(x)).ravel()
        value = -np.log((p * y).sum(1)).mean() + strength * (u + v).sum()
        return value, np.concatenate([slope + strength, strength - slope, (p - y).mean(0)])

    bounds = [(0, None)] * (2 * count) + [(None, None)] * classes
    options = {"maxiter": 10000, "maxfun": 100000, "ftol": 1e-15, "gtol": 1e-9}
    start = np.zeros(2 * count + classes)
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    weight = (found[:count] - found[count : 2 * count]).reshape(classes, -1)
    return torch.from_numpy(weight), torch.from_numpy(found[2 * count :])
