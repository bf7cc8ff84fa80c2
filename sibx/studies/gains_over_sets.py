"""What a training gains on data sets of this kind: the mean over the data sets of a study."""

from collections.abc import Iterator

import pandas as pd

from sibx.evaluation import Results, mean_over_sets, paired_gain
from sibx.report.claims import Comparison
from sibx.report.names import method_title, metric_title
from sibx.studies.glance import balanced_hits
from sibx.studies.study import Study

IMAGE = ["dataset", "model", "split", "image_id", "photo", "label"]


def gains_over_sets(results: Results, study: Study, pairs: list[Comparison]) -> pd.DataFrame:
    """Return one row per claim, one column per quantity: the mean gain over data sets with its interval for other sets.

    Quantities are the accuracy, every localization metric as the mean over methods, and the first of these metrics for
    every method. Each set's gain is that of the splits whose images are explained, over its seeds and images.
    """
    lines: dict[str, dict[str, str]] = {f"{training} - {reference}": {} for training, reference in pairs}
    for title, values in _quantities(results, study):
        wide = values.unstack("training")
        for training, reference in pairs:
            gains = (wide[training] - wide[reference]).groupby("dataset", sort=False, observed=True)
            found = [paired_gain(of_set.droplevel(["dataset"])) for _, of_set in gains]
            mean = mean_over_sets([gain.interval.mean for gain in found], [gain.error for gain in found])
            lines[f"{training} - {reference}"][title] = f"{mean:+.3f}{' *' if mean.excludes_zero else ''}"
    return pd.DataFrame(lines).T


def _quantities(results: Results, study: Study) -> Iterator[tuple[str, pd.Series]]:
    """Yield what is measured by its title, each a value per image, seed and training."""
    rows = results.rows[results.rows["split"].map(study.explains)]
    by = [*IMAGE, "seed", "training"]
    hits = Results(rows, results.curves).hits().rows
    yield " or ".join(hits["metric"].unique()), hits.set_index(by)["value"]  # several labels have a recall
    for balanced in balanced_hits(hits):
        yield "balanced accuracy", balanced.set_index(by)["value"]
    of_maps = rows[rows["method"].isin(study.method_names)]
    for place, metric in enumerate(study.localization_names):
        scores = of_maps[of_maps["metric"] == metric]
        yield metric_title(metric), scores.groupby(by, sort=False, observed=True)["value"].mean()
        if place == 0:
            for method in study.method_names:
                yield (
                    f"{metric_title(metric)}, {method_title(method)}",
                    (scores[scores["method"] == method].set_index(by)["value"]),
                )
