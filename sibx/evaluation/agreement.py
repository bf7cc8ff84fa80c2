"""Do metrics agree? Rank correlation between the scores of the same maps."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from sibx._checks import require
from sibx.evaluation.by_cell import ByCell
from sibx.evaluation.columns import MAPS, side_by_side

Array = npt.NDArray[np.float64]


def rank_correlations(scores: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Spearman's correlation between columns: that of the ranks, equal scores sharing their mean rank.

    Args:
        scores: (N, M), a row per image and a column per metric; NaN means undefined, and leaves the image out for the
            pairs of that metric only.

    Returns:
        Correlations (M, M) in [-1, 1], 0 by chance, NaN where fewer than two images are left or a column is constant on
        them; and the number of images behind each (M, M).

    Raises:
        ValueError: scores that are not (N, M).

    Source: Spearman 1904, American Journal of Psychology 15.
    """
    scores = np.asarray(scores, dtype=np.float64)
    require(scores.ndim == 2, "scores", "be (N, M), a row per image and a column per metric", scores.shape)
    defined = (~np.isnan(scores)).astype(np.int64)
    return pd.DataFrame(scores).corr(method="spearman", min_periods=2).to_numpy(), defined.T @ defined


def correlate_metrics(rows: ByCell) -> pd.DataFrame:
    """Return a line per method (of one model, training, seed, data set) and pair of metrics, over images.

    Scores are taken as they are: two metrics that agree correlate negatively where one is better when lower.

    Args:
        rows: the rows of Results.
    """
    lines = []
    for key, of_maps in rows.cells(MAPS, {}):
        wide = side_by_side(of_maps, ["image_id"], "metric")
        wide = wide[list(dict.fromkeys(of_maps["metric"]))]
        correlations, counts = rank_correlations(wide.to_numpy())
        for i, j in combinations(range(wide.shape[1]), 2):
            found = {"correlation": correlations[i, j], "n": counts[i, j], "undefined": len(wide) - counts[i, j]}
            pair = {"metric": wide.columns[i], "other": wide.columns[j]}
            lines.append({**dict(zip(MAPS, key, strict=True)), **pair, **found})
    return pd.DataFrame(lines, columns=[*MAPS, "metric", "other", "correlation", "n", "undefined"])
