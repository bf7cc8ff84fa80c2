"""Linear imputation as a dense system, one equation per removed pixel, and ROAD (Rong et al., arXiv 2202.00449)."""

import numpy as np

from sibx import metrics
from tests.references import twin_of

WEIGHTS = {(dy, dx): 1 / 6 if dy == 0 or dx == 0 else 1 / 12 for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx}


def linear_imputation(image, removed):
    """image (C, H, W), removed (H, W); every removed pixel is the weighted mean of its neighbors in the image."""
    unknown = [p for p in np.ndindex(removed.shape) if removed[p]]
    number = {p: i for i, p in enumerate(unknown)}
    system, right = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), len(image)))
    for (y, x), i in number.items():
        for (dy, dx), weight in WEIGHTS.items():
            q = (y + dy, x + dx)
            if not (0 <= q[0] < removed.shape[0] and 0 <= q[1] < removed.shape[1]):
                continue
            system[i, i] += weight
            if q in number:
                system[i, number[q]] -= weight
            else:
                right[i] += weight * image[:, q[0], q[1]]
    filled = image.copy()
    for p, values in zip(unknown, np.linalg.solve(system, right), strict=True):
        filled[:, p[0], p[1]] = values
    return filled


@twin_of(metrics.removal)
def removal(probability, image, order, shares, noise):
    """Probability of one image (C, H, W) with the first pixels of this order imputed, a value per share.

    noise (C, H, W) is what is added to imputed pixels.
    """
    values = []
    for share in shares:
        removed = np.zeros(image.shape[1:], dtype=bool)
        for p in order[: round(share * len(order))]:
            removed[p] = True
        imputed = linear_imputation(image, removed)
        for c, y, x in np.ndindex(image.shape):
            if removed[y, x]:
                imputed[c, y, x] += noise[c, y, x]
        values.append(probability(imputed))
    return values


@twin_of(metrics.road_morf)
def road_morf(probabilities):
    """Over the shares, the most relevant pixels first."""
    return sum(probabilities) / len(probabilities)


@twin_of(metrics.road_lerf)
def road_lerf(probabilities):
    """Over the shares, the least relevant pixels first."""
    return sum(probabilities) / len(probabilities)


@twin_of(metrics.road)
def road(morf, lerf):
    return road_lerf(lerf) - road_morf(morf)
