"""Photographs with several rows (of several labels or objects): intervals and tests resample them, not their rows."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
ROW = ("image_id", "label")  # what tells the rows of a photograph apart


def photographs_of(index: pd.Index) -> Codes | None:
    """Return the number of the photograph of every row, in order of appearance; None where each has one row.

    Args:
        index: what names the rows; the levels other than ``image_id`` and ``label`` name the photograph, if one of
            them is ``photo``.
    """
    names = list(index.names)
    if "photo" not in names or index.get_level_values("photo").is_unique:
        return None
    frame = index.to_frame(index=False).drop(columns=[name for name in ROW if name in names])
    codes = np.asarray(frame.groupby(list(frame), sort=False, observed=True).ngroup(), dtype=np.int64)
    return codes if len(np.unique(codes)) < len(codes) else None


def means_of(values: Array, photos: Codes | None) -> Array:
    """Return the mean of every photograph's defined values, (G,), NaN where there is none.

    Args:
        values: (N,) one value per row; NaN means undefined.
        photos: (N,) number of each row's photograph; None = each has one row.
    """
    if photos is None:
        return values
    return np.asarray(pd.Series(values).groupby(photos, sort=False, observed=True).mean(), dtype=np.float64)


def influences(values: Array, photos: Codes | None) -> Array:
    """Return a value per photograph (G, S) whose mean is that of the rows, and whose spread is what photographs add.

    Of a column with the mean m over N rows and G photographs, photograph g with n rows and the mean m_g has
    ``m + G / N n (m_g - m)``: the mean of these is m, and their standard error that of a mean over rows of which those
    of a photograph go together. With one row each they are the values.

    Args:
        values: (N, S) one row per image, one column per training; NaN means undefined.
        photos: (N,) number of each row's photograph; None = each has one row.
    """
    if photos is None:
        return values
    columns = []
    for column in values.T:
        groups = pd.Series(column).groupby(photos, sort=False, observed=True)
        counts, means = groups.count().to_numpy(), groups.mean().to_numpy()
        mean = np.nanmean(column) if counts.any() else np.nan
        columns.append(mean + (counts > 0).sum() / max(1, counts.sum()) * counts * (means - mean))
    return np.stack(columns, 1)


def totals_of(defined: Array, photos: Codes) -> tuple[Array, Array]:
    """Return the sum over the rows of every photograph, (G, ...), and how many rows it has, (G,)."""
    codes, found = pd.factorize(photos)
    sums = np.zeros((len(found), *defined.shape[1:]))
    np.add.at(sums, codes, defined)
    return sums, np.bincount(codes).astype(np.float64)
