"""Where classes have so different numbers of images that a mean over images hides what happens to rare ones."""

import pandas as pd

from sibx.evaluation.columns import IMAGE
from sibx.train.validation import UNEQUAL


def are_unequal(rows: pd.DataFrame) -> bool:
    """Say whether the commonest class has at least UNEQUAL times as many images as the rarest.

    Args:
        rows: rows of Results of one data set and split.
    """
    counts = rows.drop_duplicates(list(IMAGE))["label"].value_counts()
    return bool(counts.max() >= UNEQUAL * counts.min())
