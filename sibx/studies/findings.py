"""What a study found, in short: accuracies, and gains with the controls that they have to beat."""

from collections.abc import Iterator, Sequence
from typing import Literal

import pandas as pd

from sibx.evaluation import Interval, Results, mean_over_seeds, paired_gain, worst_group
from sibx.report import to_markdown
from sibx.report.claims import Comparison, default_comparisons
from sibx.report.names import metric_title
from sibx.studies.gains_over_sets import gains_over_sets
from sibx.studies.glance import at_a_glance, levels, spread
from sibx.studies.study import Study

WORST = "worst group"
INDEPENDENT = "test-decorrelated"  # the split whose backgrounds say nothing of the class
Section = tuple[str, str, pd.DataFrame]  # title, what the lines are, table


def summarize(results: Results, study: Study, labels: pd.DataFrame) -> str:
    """Return the tables as Markdown, data set by data set and model by model; with several seeds also over seeds.

    Args:
        results: scores of all trainings that are done.
        study: whose they are.
        labels: what ``scores_of_labels`` returned.
    """
    chunks = []
    for scope in results.rows[["dataset", "model"]].drop_duplicates().to_dict("records"):
        part = results.where(**{str(name): value for name, value in scope.items()})
        chunks.append(f"# {scope['dataset']}, {scope['model']}")
        of_scope = labels[(labels["dataset"] == scope["dataset"]) & (labels["model"] == scope["model"])]
        sections = [_glance(part, study, of_scope), *_over_images(part, study)]
        sections += _over_seeds(part, study) if len(study.seeds) > 1 else ()
        chunks += [f"## {title}\n\n{to_markdown(table, lines)}" for title, lines, table in sections if table.size]
    if results.rows["dataset"].nunique() > 1:
        pairs = _pairs(results, study)
        title = "All data sets: mean gain over them [95 % interval for other sets]"
        chunks.append(f"# {title}\n\n{to_markdown(gains_over_sets(results, study, pairs), 'claim')}")
    return "\n\n".join(chunks)


def comparisons(study: Study, trainings: Sequence[str]) -> list[Comparison]:
    """Return the pairs of trainings whose gain is asked for: over ``ce``, over the control, and as the study says."""
    default = sorted(default_comparisons(trainings), key=lambda pair: trainings.index(pair[0]))
    asked = [(training, reference) for training, _, reference in (text.partition(":") for text in study.compare)]
    return [*default, *(pair for pair in asked if set(pair) <= set(trainings) and pair not in default)]


def _glance(results: Results, study: Study, labels: pd.DataFrame) -> Section:
    over = f", mean ± standard deviation over {len(study.seeds)} seeds" if len(study.seeds) > 1 else ""
    title = f"At a glance{over}; of maps the mean over the {len(study.method_names)} methods"
    return title, "training or control map", at_a_glance(results, study, labels)


def _over_images(results: Results, study: Study) -> Iterator[Section]:
    yield f"{_right(results)} [95 % interval over images]", "training", accuracies(results)
    over = "seeds and images" if results.rows["seed"].nunique() > 1 else "images"
    title = f"Gains, paired over {over} [95 % interval]; mean over the {len(study.method_names)} methods"
    yield title, "claim", gains(results, study)


def _right(results: Results) -> str:
    """Name the share of what is right: accuracy, or of several labels recall."""
    return metric_title(str(results.hits().rows["metric"].iloc[0]))


def accuracies(results: Results) -> pd.DataFrame:
    """One row per training, one column per test split, and one for the worst group of INDEPENDENT."""
    lines: dict[str, dict[str, str]] = {}
    for cell in results.accuracy(["training", "split"]).to_dict("records"):
        lines.setdefault(cell["training"], {})[cell["split"]] = f"{Interval.of(cell)}"
    for cell in _worst_groups(results, ["training"]).to_dict("records"):
        lines[cell["training"]][WORST] = f"{Interval.of(cell)} n={cell['n']}"
    return pd.DataFrame(lines).T


def gains(results: Results, study: Study) -> pd.DataFrame:
    """The paired difference between two trainings map by map; per image and seed the mean over methods."""
    rows = results.rows[results.rows["method"].isin(study.method_names)]
    image = ["split", "metric", "image_id", "photo", "label"]
    wide = rows.set_index([*image, "method", "seed", "training"])["value"].unstack("training")
    lines = {}
    for training, reference in _pairs(results, study):
        differences = (wide[training] - wide[reference]).groupby([*image, "seed"], sort=False, observed=True).mean()
        for split in rows["split"].unique():
            cells = {
                m: paired_gain(of_metric)
                for m, of_metric in differences[split].groupby("metric", sort=False, observed=True)
            }
            lines[f"{training} - {reference}, {split}"] = {m: f"{gain.interval:+.3f}" for m, gain in cells.items()}
    return pd.DataFrame(lines).T.reindex(columns=rows["metric"].unique())


def _over_seeds(results: Results, study: Study) -> Iterator[Section]:
    """Mean and standard deviation over seeds, and differences with Student's interval; ``*`` marks one without 0."""
    spread, gain = f"mean and standard deviation over {len(study.seeds)} seeds", "paired difference over seeds"
    hits, worst = results.hits(), _worst_groups(results, ["training", "seed"]).assign(split=WORST, method="")
    right = _right(results)
    yield f"{right}: {spread}", "training", _levels(pd.concat([hits.rows, worst.rename(columns={"mean": "value"})]))
    yield f"{right}: {gain} [95 % interval]", "claim", _gains(hits, study).join(_worst_gains(worst, results, study))
    of_maps = results.rows[results.rows["method"].isin(study.method_names)]
    for place, metric in enumerate(study.localization_names):
        scores = Results(of_maps[of_maps["metric"] == metric], results.curves)
        title = metric_title(metric)
        yield f"{title}: {spread}", "training", _levels(scores.rows)
        yield f"{title}: {gain} [95 % interval]", "claim", _gains(scores, study)
        if place == 0:
            over_both = _gains(scores, study, over="seeds and images")
            yield f"{title}: paired difference over seeds and images [95 % interval]", "claim", over_both
            yield f"{title}: maps without a value, of all seeds", "training", _undefined(scores.rows)


def _levels(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per training, one column per method or split."""
    return levels(
        rows.assign(what=_columns(rows))
        .groupby(["training", "what", "seed"], sort=False, observed=True)["value"]
        .mean()
    )


def _gains(results: Results, study: Study, over: Literal["seeds", "seeds and images"] = "seeds") -> pd.DataFrame:
    """One row per claim, one column per method or split."""
    lines = {}
    for training, reference in _pairs(results, study):
        compare = results.over_seeds if over == "seeds" else results.difference
        found = compare(training, reference)
        cells = zip(_columns(found), found.to_dict("records"), strict=True)
        lines[f"{training} - {reference}"] = {what: _marked(Interval.of(cell)) for what, cell in cells}
    return pd.DataFrame(lines).T


def _worst_gains(worst: pd.DataFrame, results: Results, study: Study) -> pd.DataFrame:
    """The same of the worst group, which may be another one after every training."""
    means = worst.pivot(index="seed", columns="training", values="mean") if len(worst) else pd.DataFrame()
    lines = {
        f"{training} - {reference}": _marked(mean_over_seeds((means[training] - means[reference]).to_numpy()))
        for training, reference in _pairs(results, study)
        if len(means)
    }
    return pd.DataFrame({WORST: lines}) if lines else pd.DataFrame()


def _undefined(rows: pd.DataFrame) -> pd.DataFrame:
    """How many maps have no value: one row per training that has such maps."""
    counts = rows["value"].isna().groupby([rows["training"], _columns(rows)], sort=False, observed=True).sum()
    wide = spread(counts, missing=0)
    return wide[wide.sum(axis=1) > 0].astype(str)


def _worst_groups(results: Results, by: list[str]) -> pd.DataFrame:
    """Accuracy of the worst group where backgrounds say nothing of the class; empty without such a split."""
    there = INDEPENDENT in set(results.rows["split"])
    return worst_group(results.where(split=INDEPENDENT).hits(), by) if there else pd.DataFrame(columns=by)


def _pairs(results: Results, study: Study) -> list[Comparison]:
    return comparisons(study, [str(t) for t in results.rows["training"].unique()])


def _columns(rows: pd.DataFrame) -> pd.Series:
    """What stands under a value: the method, the split, or both, as far as they tell values apart."""
    parts = [name for name in ("method", "split") if rows[name].nunique() > 1] or ["method"]
    return rows[parts].agg(", ".join, axis=1).str.removeprefix(", ")


def _marked(found: Interval) -> str:
    return f"{found:+.3f}{' *' if found.excludes_zero else ''}"
