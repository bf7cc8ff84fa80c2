"""All of a study in one table: what every training's classifier and maps are worth, and the maps that need no model."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sibx.evaluation import ACCURACY, CLASSIFIER, Results
from sibx.evaluation.classified import to_balanced
from sibx.evaluation.columns import BALANCED
from sibx.report.names import metric_title
from sibx.report.unequal import are_unequal
from sibx.studies.job import Job
from sibx.studies.study import Study

KEY = ["dataset", "model", "seed", "training", "split"]
OF_LABELS = {"average_precision": "mAP", "roc_auc": "ROC-AUC", "f1": "F1"}  # means over labels


def scores_of_labels(cells: Mapping[Job, Results]) -> pd.DataFrame:
    """Return one row per cell, split and score of ``label_scores``, a mean over labels; empty where there are none."""
    rows = [
        (job.group.dataset, job.group.model, job.group.seed, job.name, split, title, scores[name])
        for job, results in cells.items()
        for split, scores in results.info.get("label_scores", {}).items()
        for name, title in OF_LABELS.items()
    ]
    return pd.DataFrame(rows, columns=[*KEY, "what", "value"])


def at_a_glance(results: Results, study: Study, labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row per training and one per control map, one column per quantity: mean ± deviation over seeds.

    Accuracy (of several labels the recall), the scores of labels, and every localization metric as the mean over the
    study's methods, on the splits whose images are explained. Of a single seed there is no deviation.

    Args:
        results: scores of one data set and model.
        study: whose they are.
        labels: what ``scores_of_labels`` returned, of the same data set and model.
    """
    rows = results.rows[results.rows["split"].map(study.explains)]
    of_maps = rows[(rows["method"] != CLASSIFIER) & rows["metric"].isin(study.localization_names)]
    metrics = of_maps.assign(what=of_maps["metric"].map(metric_title))
    controls = metrics[metrics["method"].isin(study.controls)]
    hits = Results(rows, results.curves).hits().rows
    quantities = [
        hits.assign(what=hits["metric"].map(metric_title)),
        *balanced_hits(hits),
        labels[labels["split"].map(study.explains)],
        metrics[metrics["method"].isin(study.method_names)],
        # They never look at the model, so that any training's do; which class is explained may depend on it.
        controls.assign(training=controls["method"]),
    ]
    parts = [
        part.groupby([*KEY, "what"], sort=False, observed=True)["value"].mean() for part in quantities if len(part)
    ]
    return levels(pd.concat(parts).groupby(["training", "what", "seed"], sort=False, observed=True).mean())


def balanced_hits(hits: pd.DataFrame) -> list[pd.DataFrame]:
    """Return hits whose means are the balanced accuracy, of one data set where classes are unequal; else nothing."""
    accuracy = (hits["metric"] == ACCURACY).all()
    unequal = any(are_unequal(part) for _, part in hits.groupby(["dataset", "split"], sort=False, observed=True))
    return [to_balanced(hits).assign(what=metric_title(BALANCED))] if accuracy and unequal else []


def levels(of_seeds: pd.Series) -> pd.DataFrame:
    """Return mean ± standard deviation over seeds as text, one row per training, one column per quantity.

    Args:
        of_seeds: a value for each ``training``, ``what`` and ``seed``.
    """
    cells = of_seeds.groupby(["training", "what"], sort=False, observed=True).agg(["mean", "std"])
    texts = cells.apply(lambda c: f"{c['mean']:.3f} ± {c['std']:.3f}".removesuffix(" ± nan"), axis=1)
    return spread(texts, missing="")


def spread(values: pd.Series, missing: Any) -> pd.DataFrame:
    """Put the entries of the second of two levels side by side; both levels keep their order of first appearance.

    With ``unstack(sort=False)`` pandas 2 puts values under the names of others.
    """
    rows, columns = (values.index.unique(level) for level in (0, 1))
    return values.unstack(fill_value=missing).loc[rows, columns]
