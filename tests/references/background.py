"""ImageNet-9's images (Xiao et al., arXiv 2006.09994), pixel by pixel; and accuracy by group (arXiv 1911.08731)."""

import numpy as np


def hole(mask, undefined, reach):
    """Pixels at most ``reach`` rows and columns from one that is or may be object."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        for v in range(max(0, y - reach), min(height, y + reach + 1)):
            for u in range(max(0, x - reach), min(width, x + reach + 1)):
                out[y, x] |= mask[v, u] or undefined[v, u]
    return out


def box(mask):
    pixels = [p for p in np.ndindex(mask.shape) if mask[p]]
    out = np.zeros_like(mask)
    if pixels:
        (top, bottom), (left, right) = ((min(side), max(side)) for side in zip(*pixels, strict=True))
        for y, x in np.ndindex(mask.shape):
            out[y, x] = top <= y <= bottom and left <= x <= right
    return out


def tile(image, boxed):
    """The larger margin above or below against the larger one left or right, whole width or height, repeated."""
    height, width = boxed.shape
    rows = [y for y in range(height) if boxed[y].any()]
    columns = [x for x in range(width) if boxed[:, x].any()]
    above, below, left, right = rows[0], height - 1 - rows[-1], columns[0], width - 1 - columns[-1]
    if max(left, right) * height > max(above, below) * width:
        strip = image[:, :, :left] if left > right else image[:, :, width - right :]
    else:
        strip = image[:, :above] if above > below else image[:, height - below :]
    out = image.copy()
    for y, x in np.ndindex(boxed.shape):
        if boxed[y, x]:
            out[:, y, x] = strip[:, y % strip.shape[1], x % strip.shape[2]]
    return out


def mix(image, mask, background):
    """The image where the mask is, the background elsewhere."""
    out = np.empty_like(image)
    for y, x in np.ndindex(mask.shape):
        out[:, y, x] = image[:, y, x] if mask[y, x] else background[:, y, x]
    return out


def worst_group(hits, groups):
    """(group, its accuracy) of the lowest accuracy."""
    accuracies = {}
    for group in set(groups):
        mine = [h for h, g in zip(hits, groups, strict=True) if g == group and not np.isnan(h)]
        if mine and group >= 0:
            accuracies[group] = sum(mine) / len(mine)
    return min(accuracies.items(), key=lambda item: item[1])
