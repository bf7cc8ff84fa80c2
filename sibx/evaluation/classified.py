"""Which images are classified right, read off the rows of Results; ``sibx.models.outputs.hits`` says it of logits."""

import numpy as np
import pandas as pd

from sibx.evaluation.columns import ACCURACY, CLASSIFIER, IMAGE


def is_right(images: pd.DataFrame) -> pd.Series:
    """Say of every row whether its image is classified right.

    It is if the label is predicted with a confidence: where a logit is NaN there is none, and the image counts as
    wrong, whatever its label.

    Args:
        images: table with the columns ``predicted``, ``label`` and ``confidence``.

    Returns:
        (rows,) bool.
    """
    return (images["predicted"] == images["label"]) & images["confidence"].notna()


def to_hits(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image, model, training and seed, with 1 as ``value`` if the image is right, else 0.

    Args:
        rows: the rows of Results; all that an image has of a model, training and seed say the same of its class.
    """
    images = rows.drop_duplicates([*IMAGE, "model", "training", "seed"]).reset_index(drop=True)
    hits = is_right(images).astype(np.float64)
    return images.assign(method=CLASSIFIER, target=images["label"], metric=ACCURACY, value=hits)
