"""Scores that differ in the rounding of float32 maps only are equal."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
RELATIVE = 1e-5  # maps are float32: sums over them know about six digits
SMALLEST = float(np.finfo(np.float32).eps)  # of an image's largest score: what is left where larger terms cancel


def with_ties(scores: Array) -> Array:
    """Return scores (N, k) in which those of one image that differ by rounding only are the same number.

    In the order of size, a score belongs to the one before it if they differ by at most RELATIVE of the larger one, or
    by SMALLEST of the image's largest; a run of such scores becomes its smallest. NaN stays NaN. So no score lies on
    the edge of a cell of some grid, where two that differ in the last bit would be rounded apart.
    """
    order = scores.argsort(axis=1, kind="stable")
    rising = np.take_along_axis(scores, order, 1)  # NaN comes last
    sizes = np.abs(np.where(np.isfinite(rising), rising, 0))
    largest = sizes.max(1, keepdims=True, initial=0)
    reach = np.maximum(RELATIVE * np.maximum(sizes[:, 1:], sizes[:, :-1]), SMALLEST * largest)
    with np.errstate(invalid="ignore"):  # infinite scores are equal without a difference
        apart = ~(rising[:, 1:] - rising[:, :-1] <= reach)
    begins = np.concatenate([np.ones((len(scores), 1), dtype=bool), apart], 1)
    starts = np.maximum.accumulate(np.where(begins, np.arange(scores.shape[1]), 0), axis=1)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, np.take_along_axis(rising, starts, 1), 1)
    return found
