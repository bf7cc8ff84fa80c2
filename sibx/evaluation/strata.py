"""Objects by size: the share of the image that they cover."""

from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from sibx._checks import check_choice, require

Sizes = Literal["tertiles", "coco"]
COCO = 32**2 / (640 * 480), 96**2 / (640 * 480)  # its limits in pixels, for the usual size of its images
NAMES = ("small", "medium", "large")
NO_OBJECT = "no object"


def size_of(areas: npt.NDArray[np.float64], sizes: Sizes | tuple[float, float] = "tertiles") -> npt.NDArray[np.str_]:
    """Name the size of every object.

    Args:
        areas: (N,) shares of the image in [0, 1]; 0 or NaN = no object.
        sizes: the two limits between ``small``, ``medium`` and ``large`` (a limit belongs to the smaller ones):
            ``"tertiles"``: a third of the objects each, by the quantiles of these areas; ``"coco"``: 0.0033 and 0.03,
            COCO's 32 x 32 and 96 x 96 pixels (Lin 2014, arXiv 1405.0312) in an image of 640 x 480; or two shares.

    Returns:
        (N,) names; ``no object`` where there is none.

    Raises:
        ValueError: an unknown name, or limits that are not two increasing numbers.
    """
    areas = np.asarray(areas, dtype=np.float64)
    if isinstance(sizes, str):
        check_choice("sizes", sizes, get_args(Sizes))
    else:
        require(len(sizes) == 2 and sizes[0] < sizes[1], "sizes", "be two increasing shares", sizes)
    there = areas > 0
    if not there.any():
        return np.full(areas.shape, NO_OBJECT)
    tertiles = tuple(np.quantile(areas[there], [1 / 3, 2 / 3]))
    limits = {"tertiles": tertiles, "coco": COCO}[sizes] if isinstance(sizes, str) else sizes
    names = np.array(NAMES)[np.searchsorted(limits, np.nan_to_num(areas), side="left")]
    return cast("npt.NDArray[np.str_]", np.where(there, names, NO_OBJECT))


def add_sizes(rows: pd.DataFrame, sizes: Sizes | tuple[float, float]) -> pd.DataFrame:
    """Return rows of Results with the column ``size``; tertiles are those of the images of one data set and split."""
    images = rows.drop_duplicates(["dataset", "split", "image_id"])
    named = [
        part[["dataset", "split", "image_id"]].assign(size=size_of(part["area"].to_numpy(), sizes))
        for _, part in images.groupby(["dataset", "split"], sort=False, observed=True)
    ]
    return rows.drop(columns="size", errors="ignore").merge(pd.concat(named), how="left")
