"""Which images are classified right, read off the rows of Results; ``sibx.models.hits`` says it of logits."""

import numpy as np
import pandas as pd

from sibx.evaluation.columns import ACCURACY, BALANCED, CLASSIFIER, NO_CLASS, RECALL


def is_right(images: pd.DataFrame) -> pd.Series:
    """Say of every row whether its image is classified right: 1, 0, or NaN where the model's scores have no classes.

    It is right if the label is predicted with a confidence: where a logit is NaN there is none, and the image counts as
    wrong, whatever its label.

    Args:
        images: table with the columns ``predicted``, ``label`` and ``confidence``.

    Returns:
        (rows,) float64.
    """
    right = (images["predicted"] == images["label"]) & images["confidence"].notna()
    return right.astype(np.float64).mask(images["predicted"] == NO_CLASS)


def are_labels(rows: pd.DataFrame) -> bool:
    """Say whether rows of one data set and split are those of labels that are there, of several per image.

    What is right among them is a recall: labels that are absent have no row, and nothing shows whether the model says
    that they are there. They are the rows of ``OnePerClass``, which names a photograph and a class, and any others of
    photographs with several labels.
    """
    first = rows.iloc[0]
    named = str(first["image_id"]).startswith(f"{first['photo']}/")
    return named or bool((rows.groupby("photo", observed=True)["label"].nunique() > 1).any())


def to_hits(images: pd.DataFrame) -> pd.DataFrame:
    """Return rows of images with what ``is_right`` says as ``value``.

    ``metric`` is ``accuracy``, or ``recall`` where rows ``are_labels``.

    Args:
        images: the first row of Results of every different line of ``CLASSIFIED``; all that an image has of a model,
            training and seed say the same of its class.
    """
    hits = images.assign(method=CLASSIFIER, target=images["label"], metric=ACCURACY, value=is_right(images))
    for _, part in images.groupby(["dataset", "split"], observed=True):
        if are_labels(part):
            hits.loc[part.index, "metric"] = RECALL
    return hits


def to_balanced(hits: pd.DataFrame) -> pd.DataFrame:
    """Return hits as values whose mean is the balanced accuracy m, and whose spread is what images add to it.

    Of N images of K classes, a hit v of one of the n images of a class with the recall r becomes m + N / (K n) (v - r).

    Args:
        hits: rows of ``Results.hits``.
    """
    known = hits[hits["value"].notna()]
    keys = ["dataset", "split", "model", "training", "seed"]
    of_all, of_class = (known.groupby(by, observed=True) for by in (keys, [*keys, "label"]))
    recall, images = of_class["value"].transform("mean"), of_class["value"].transform("size")
    classes = of_all["label"].transform("nunique")
    balanced = (recall / images).groupby([known[key] for key in keys], observed=True).transform("sum") / classes
    weight = of_all["value"].transform("size") / (classes * images)
    return known.assign(value=balanced + weight * (known["value"] - recall), metric=BALANCED)
