"""Class activation maps of one image, from their papers, with loops over channels; a and g are (C, h, w) arrays."""

import numpy as np


def gradcam_pp(a, g):
    """Equation 19 with Y = exp(S): second and third derivatives are g^2 and g^3 times exp(S), which cancels."""
    total = 0
    for k in range(len(a)):
        alpha = np.zeros_like(a[k])
        for p in np.ndindex(a[k].shape):
            denominator = 2 * g[k][p] ** 2 + a[k].sum() * g[k][p] ** 3
            alpha[p] = g[k][p] ** 2 / denominator if denominator != 0 else 0
        total = total + (alpha * np.maximum(g[k], 0)).sum() * a[k]
    return np.maximum(total, 0)


def layercam(a, g):
    return np.maximum(sum(np.maximum(g[k], 0) * a[k] for k in range(len(a))), 0)


def hirescam(a, g):
    return np.maximum(sum(g[k] * a[k] for k in range(len(a))), 0)


def xgradcam(a, g):
    return np.maximum(sum((g[k] * a[k]).sum() / a[k].sum() * a[k] for k in range(len(a))), 0)


def gradcam(a, g):
    return np.maximum(sum(g[k].mean() * a[k] for k in range(len(a))), 0)


def eigencam(a):
    """Leading right singular vector by power iteration on A^T A."""
    rows = a.reshape(len(a), -1).T
    vector = np.ones(rows.shape[1])
    for _ in range(5000):
        vector = rows.T @ (rows @ vector)
        vector /= np.linalg.norm(vector)
    projection = (rows @ vector).reshape(a.shape[1:])
    return np.maximum(projection * np.sign(projection.sum()), 0)


def eigengradcam(a, g):
    """Eigen-CAM of a g, with the sign of what the places contribute."""
    rows = (a * g).reshape(len(a), -1).T
    vector = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    projection = (rows @ vector).reshape(a.shape[1:])
    return np.maximum(projection * np.sign((projection * (a * g).sum(0)).sum()), 0)


def scorecam(score, image, a, enlarge):
    """score(image) -> float; enlarge(h, w map) -> H, W map."""
    scores = []
    for channel in a:
        mask = enlarge(channel)
        span = mask.max() - mask.min()
        mask = (mask - mask.min()) / span if span else np.zeros_like(mask)
        scores.append(score(image * mask))
    weights = np.exp(np.array(scores) - max(scores))
    weights /= weights.sum()
    return np.maximum(sum(w * c for w, c in zip(weights, a, strict=True)), 0)


def ablationcam(tail, a):
    """tail(a) -> the target's score from the layer's activations on."""
    clean, total = tail(a), 0
    for k in range(len(a)):
        without = a.copy()
        without[k] = 0
        total = total + (clean - tail(without)) * a[k]
    return np.maximum(total, 0)
