"""Localization scores, pixel by pixel from their definitions."""

import numpy as np

from sibx import evaluation, metrics
from tests.references import twin_of


@twin_of(metrics.foreground_focus)
def foreground_focus(heatmap, mask):
    inside = total = 0.0
    for y, x in np.ndindex(heatmap.shape):
        total += heatmap[y, x]
        inside += heatmap[y, x] if mask[y, x] else 0.0
    return inside / total


@twin_of(metrics.foreground_lift)
def foreground_lift(heatmap, mask):
    """Foreground focus over the share of the pixels on the object."""
    return foreground_focus(heatmap, mask) * mask.size / mask.sum()


@twin_of(metrics.attribution_localization)
def attribution_localization(attributions, box):
    """Kohlbrenner 2020: positive relevance inside the box over all positive relevance."""
    positive = [(a, s) for a, s in zip(attributions.flatten(), box.flatten(), strict=True) if a > 0]
    return sum(a for a, s in positive if s) / sum(a for a, _ in positive)


@twin_of(evaluation.focus)
def focus(heatmap, labels, target):
    """Arias-Duart 2022: relevance of the target's quadrants (row by row in labels) over that of the mosaic."""
    middle, center = heatmap.shape[0] // 2, heatmap.shape[1] // 2
    halves = [(slice(None, middle), slice(middle, None)), (slice(None, center), slice(center, None))]
    quadrants = [heatmap[rows, columns].sum() for rows in halves[0] for columns in halves[1]]
    return sum(q for q, label in zip(quadrants, labels, strict=True) if label == target) / sum(quadrants)


@twin_of(metrics.background_suppression)
def background_suppression(heatmap, mask):
    inside = np.mean([heatmap[p] for p in np.ndindex(heatmap.shape) if mask[p]])
    outside = np.mean([heatmap[p] for p in np.ndindex(heatmap.shape) if not mask[p]])
    return inside / (inside + outside)


@twin_of(metrics.pointing_game)
def pointing_game(heatmap, mask, tolerance):
    maxima = [p for p in np.ndindex(heatmap.shape) if heatmap[p] == heatmap.max()]
    objects = [p for p in np.ndindex(mask.shape) if mask[p]]
    hits = [any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in objects) for y, x in maxima]
    return np.mean(hits)


@twin_of(metrics.relevance_rank)
def relevance_rank(heatmap, mask):
    return topk_intersection(heatmap, mask, mask.sum())


@twin_of(metrics.iou)
def iou(heatmap, mask):
    """For a map without ties: the |s| largest pixels as a set."""
    top = np.zeros(heatmap.size, bool)
    top[np.argsort(-heatmap.flatten())[: mask.sum()]] = True
    top = top.reshape(mask.shape)
    return (top & mask).sum() / (top | mask).sum()


@twin_of(metrics.topk_intersection)
def topk_intersection(heatmap, mask, k):
    """Expected hits among the min(k, |s|) first pixels over random orders of tied pixels."""
    size = min(k, mask.sum())
    hits, places = 0.0, size
    for value in sorted(set(heatmap.flatten()), reverse=True):
        group = heatmap == value
        taken = min(places, group.sum())
        hits += taken * (group & mask).sum() / group.sum()
        places -= taken
    return hits / size


@twin_of(metrics.best_iou)
def best_iou(heatmap, mask):
    return max(((heatmap >= t) & mask).sum() / ((heatmap >= t) | mask).sum() for t in set(heatmap.flatten()))


def two_classes(heatmap, mask):
    """For object and background: which pixels are taken for it at the map's mean, and which are."""
    above = heatmap > heatmap.mean() * (1 + 1e-9)
    return [(above, mask), (~above, ~mask)]


@twin_of(metrics.iou_at_mean)
def iou_at_mean(heatmap, mask):
    """Chefer 2020: the mean over both classes."""
    return np.mean([(taken & true).sum() / (taken | true).sum() for taken, true in two_classes(heatmap, mask)])


@twin_of(metrics.pixel_accuracy)
def pixel_accuracy(heatmap, mask):
    return sum((taken & true).sum() for taken, true in two_classes(heatmap, mask)) / mask.size


@twin_of(metrics.average_precision)
def average_precision(heatmap, mask):
    area, recall_before = 0.0, 0.0
    for t in sorted(set(heatmap.flatten()), reverse=True):
        chosen = heatmap >= t
        recall, precision = (chosen & mask).sum() / mask.sum(), (chosen & mask).sum() / chosen.sum()
        area += (recall - recall_before) * precision
        recall_before = recall
    return area


@twin_of(metrics.iou_at)
def iou_at(heatmap, mask, threshold):
    low, high = heatmap.min(), heatmap.max()
    above = (heatmap - low) / (high - low) >= threshold if high > low else np.ones_like(mask)
    return (above & mask).sum() / (above | mask).sum()


@twin_of(metrics.iou_over_thresholds)
def iou_over_thresholds(heatmap, mask):
    return np.mean([iou_at(heatmap, mask, k / 100) for k in range(1, 101)])


@twin_of(metrics.average_precision_both)
def average_precision_both(heatmap, mask):
    """Chefer 2020: over two channels, the map and what it lacks, and two one-hot channels of the mask."""
    answers = np.stack([heatmap - heatmap.min(), heatmap.max() - heatmap])  # times 1 / (max - min)
    return average_precision(answers, np.stack([mask, ~mask]))


@twin_of(metrics.roc_auc)
def roc_auc(heatmap, mask):
    """Over all pairs of an object pixel and another one."""
    wins = [(p > q) + 0.5 * (p == q) for p in heatmap[mask] for q in heatmap[~mask]]
    return np.mean(wins)
