"""Perturbation curves and their scores, pixel by pixel from their papers."""

import io
from itertools import pairwise

import numpy as np
from PIL import Image

from sibx import metrics
from tests.references import twin_of


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


@twin_of(metrics.deletion)
def deletion(probability, image, baseline, order, steps):
    return area(*curve(probability, image, baseline, order, steps))


@twin_of(metrics.insertion)
def insertion(probability, image, baseline, order, steps):
    return area(*curve(probability, baseline, image, order, steps))


@twin_of(metrics.lerf)
def lerf(probability, image, baseline, order, steps):
    """The least relevant pixels first."""
    return area(*curve(probability, image, baseline, order[::-1], steps))


@twin_of(metrics.normalized_deletion)
def normalized_deletion(probability, image, baseline, order, steps):
    return deletion(probability, image, baseline, order, steps) / probability(image)


@twin_of(metrics.normalized_insertion)
def normalized_insertion(probability, image, baseline, order, steps):
    return insertion(probability, image, baseline, order, steps) / probability(image)


@twin_of(metrics.insertion_minus_deletion)
def insertion_minus_deletion(probability, image, start, end, order, steps):
    """Insertion from the one baseline, deletion towards the other."""
    return insertion(probability, image, start, order, steps) - deletion(probability, image, end, order, steps)


@twin_of(metrics.srg)
def srg(probability, image, baseline, order, steps):
    """Least relevant pixels first minus most relevant pixels first."""
    towards = (probability, image, baseline)
    return lerf(*towards, order, steps) - deletion(*towards, order, steps)


@twin_of(metrics.aopc)
def aopc(probability, image, baseline, order, steps):
    """Mean over k = 0, ..., L of f(x_0) - f(x_k)."""
    _, probabilities = curve(probability, image, baseline, order, steps)
    total = 0.0
    for p in probabilities:
        total += probabilities[0] - p
    return total / len(probabilities)


PERCENT = (0, 0.5, 1, 2, 3, 4, 5, 7, 10, 13, 21, 34, 50, 75, 100)


def compressed(pixels):
    """Bytes of a picture (C, H, W) in [0, 1] as a lossless WebP."""
    file = io.BytesIO()
    picture = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(picture).save(file, "WEBP", lossless=True, quality=100, method=0)
    return len(file.getvalue())


def information_area(answer, pixels, image, blurred, order):
    """Area under the answer over the compressed size, from the blurred image (0) to the clean one (1), as it grows."""
    frames = []
    for percent in PERCENT:
        frame = blurred.copy()
        for y, x in order[: round(percent / 100 * len(order))]:
            frame[:, y, x] = image[:, y, x]
        frames.append(frame)
    sizes, values = [compressed(pixels(f)) for f in frames], [answer(f) for f in frames]
    if values[-1] < 0.8 or values[-1] <= values[0] or sizes[-1] <= sizes[0]:
        return np.nan
    best, points = 0.0, []
    for size, value in zip(sizes[1:-1], values[1:-1], strict=True):
        best = max(best, min(1.0, (value - values[0]) / (values[-1] - values[0])))
        points.append((min(1.0, max(0.0, (size - sizes[0]) / (sizes[-1] - sizes[0]))), best))
    points = [(0.0, 0.0), *sorted(points, key=lambda point: point[0]), (1.0, 1.0)]
    return area(*zip(*points, strict=True))


@twin_of(metrics.sic)
def sic(probability, pixels, image, blurred, order):
    return information_area(probability, pixels, image, blurred, order)


@twin_of(metrics.aic)
def aic(predicted, pixels, image, blurred, order):
    """Of 1 where the class is predicted, else 0."""
    return information_area(predicted, pixels, image, blurred, order)


def bridge_variance(roughness, length, steps):
    """Variance of the area of a Brownian bridge that is measured at steps - 1 inner points, from its covariance."""
    total = 0.0
    for i in range(1, steps):
        for j in range(1, steps):
            s, t = min(i, j) / steps, max(i, j) / steps
            total += roughness * length * s * (1 - t)
    return total * (length / steps) ** 2


def adaptive(probability, steps, tolerance):
    """Halve the interval whose trapezoid is the least certain until the area is certain: positions and values."""
    known = {round(steps * i / min(7, steps)): None for i in range(min(7, steps) + 1)}
    while True:
        known = {i: probability(i) if known[i] is None else known[i] for i in sorted(known)}
        places = list(known)
        lengths = [(b - a) / steps for a, b in pairwise(places)]
        rough = [(known[b] - known[a]) ** 2 * steps / (b - a) for a, b in pairwise(places)]
        variances = []
        for i, h in enumerate(lengths):
            left, right = rough[max(i - 1, 0)], rough[min(i + 1, len(rough) - 1)]
            roughness = rough[i] + 0.3 * (left + right) / 2
            variances.append(bridge_variance(roughness, h, places[i + 1] - places[i]))
        if 1.96 * np.sqrt(sum(variances)) <= tolerance:
            return places, list(known.values())
        worst = int(np.argmax(variances))
        known[(places[worst] + places[worst + 1]) // 2] = None
