"""Statistics and the views of Results, over scores with ties, gaps and extreme sizes, against their slow forms."""

import math
from statistics import stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from sibx import Results
from sibx.evaluation import bootstrap_mean, holm, mean_over_seeds, rank_correlations, rank_methods, wilcoxon_signed_rank
from sibx.evaluation.columns import COLUMNS, CURVE_COLUMNS
from tests.helpers.fuzzing import cases
from tests.helpers.strategies import scores, seeds, tables
from tests.helpers.tables import assert_read_back
from tests.references import statistics as reference

APPROX = {"rel": 1e-7, "abs": 1e-12, "nan_ok": True}
FIXED = {"dataset": ["synthetic"], "split": ["test"], "model": ["tiny"]}
VARIED = {
    "training": ["ce", "sib"],
    "seed": [0, 1, 7],
    "method": ["sib", "a,b"],
    "metric": ["roc_auc", "deletion"],
    "image_id": ["3", "ä/b.png", "x"],
}
ABOUT = {"label": 1, "predicted": 1, "confidence": 0.5, "group": -1, "area": 0.25, "target": 1}


def to_results(rows):
    """Results of rows as ``tables`` draws them."""
    rows = rows.assign(photo=rows["image_id"], **ABOUT)[list(COLUMNS)]
    curves = rows.iloc[:0].assign(curve="", x=0.0, y=0.0)[list(CURVE_COLUMNS)]
    return Results(rows.reset_index(drop=True), curves)


def by_key(rows, *names):
    """What the columns hold -> value, of every row."""
    return {tuple(row[name] for name in names): row["value"] for row in rows.to_dict("records")}


def mean_of_means(values, place):
    """Every entry's mean of its defined values, NaN where there is none."""
    groups = {}
    for key, value in values.items():
        groups.setdefault(key[place], []).append(value)
    known = {k: [v for v in found if not math.isnan(v)] for k, found in groups.items()}
    return {k: sum(found) / len(found) if found else math.nan for k, found in known.items()}


@cases(100)
@given(values=scores(9), others=scores(9))
def test_signed_rank(values, others):
    differences = values - others
    found = wilcoxon_signed_rank(values, others)
    defined = differences[~np.isnan(differences)]
    assert (found.n, found.undefined, found.zeros) == (len(defined), 9 - len(defined), (defined == 0).sum())
    if len(defined):
        assert found[:2] == pytest.approx(reference.wilcoxon_exact(differences))


@cases(100)
@given(p_values=st.lists(st.sampled_from([0, 1e-300, 0.01, 0.04, 0.5, 1]) | st.floats(0, 1), max_size=9))
def test_holm(p_values):
    assert holm(np.array(p_values)).tolist() == pytest.approx(reference.holm(p_values), rel=1e-12)


@cases(60)
@given(values=scores(21), higher=st.booleans())
def test_ranks_and_correlations(values, higher):
    table = values.reshape(7, 3)
    correlations, counts = rank_correlations(table)
    for i, j in ((0, 1), (1, 2), (2, 2)):
        expected, n = reference.spearman(table[:, i], table[:, j])
        assert counts[i, j] == n
        assert correlations[i, j] == pytest.approx(expected, **APPROX)
    ranking = rank_methods(table, list("abc"), higher_is_better=higher)
    assert ranking.n + ranking.undefined == 7
    if ranking.n:
        means, statistic = reference.friedman(table, higher)
        assert [ranking.mean_ranks[name] for name in "abc"] == pytest.approx(means)
        assert ranking.statistic == pytest.approx(statistic, abs=1e-9)


@cases(60)
@given(values=scores(8), level=st.sampled_from([0.5, 0.95]))
def test_intervals(values, level):
    defined = [v for v in values.tolist() if not math.isnan(v)]
    for found in (bootstrap_mean(values, level=level, resamples=50), mean_over_seeds(values, level=level)):
        assert (found.n, found.undefined) == (len(defined), 8 - len(defined))
        assert found.mean == pytest.approx(sum(defined) / len(defined) if defined else math.nan, **APPROX)
        if defined:
            assert found.low <= found.mean * (1 + math.copysign(1e-12, found.mean))
            assert found.high >= found.mean * (1 - math.copysign(1e-12, found.mean))
    if len(defined) > 1:  # the last one is Student's
        reach = student.ppf((1 + level) / 2, len(defined) - 1) * stdev(defined) / math.sqrt(len(defined))
        assert (found.high - found.mean, found.mean - found.low) == pytest.approx((reach, reach), rel=1e-6, abs=1e-6)


@cases(15)
@given(rows=tables(FIXED | VARIED))
def test_summary_and_differences(rows):
    results = to_results(rows)
    for line in results.summary().to_dict("records"):
        cell = rows[(rows["training"] == line["training"]) & (rows["method"] == line["method"])]
        means = mean_of_means(by_key(cell[cell["metric"] == line["metric"]], "image_id", "seed"), 0)
        known = [v for v in means.values() if not math.isnan(v)]
        assert (line["n"], line["undefined"]) == (len(known), len(means) - len(known))
        assert line["mean"] == pytest.approx(sum(known) / len(known) if known else math.nan, **APPROX)
    if set(rows["training"]) < {"ce", "sib"}:
        return
    over_seeds = results.over_seeds("sib", "ce").set_index(["method", "metric"])
    for line in results.difference("sib", "ce").to_dict("records"):
        cell = rows[(rows["method"] == line["method"]) & (rows["metric"] == line["metric"])]
        values, others = (by_key(cell[cell["training"] == t], "seed", "image_id") for t in ("sib", "ce"))
        gains = {k: values[k] - others[k] for k in values.keys() & others.keys()}
        known = {k: v for k, v in gains.items() if not math.isnan(v)}
        of_seeds, of_images = (mean_of_means(known, place) for place in (0, 1))
        assert (line["n"], line["seeds"]) == (len(of_images), len(of_seeds))
        if len(of_seeds) > 1:
            mean = sum(of_seeds.values()) / len(of_seeds)
            if len(of_images) > 1:
                expected = reference.over_seeds_and_images(known)
                assert (line["mean"], line["low"], line["high"]) == pytest.approx(expected, **APPROX)
            assert over_seeds.loc[line["method"], line["metric"]]["mean"] == pytest.approx(mean, **APPROX)


@cases(10)
@given(rows=tables(FIXED | VARIED), seed=seeds)
def test_what_was_saved_is_read_back(tmp_path_factory, rows, seed):
    """To the bit, in the order that it had; and other orders change no view."""
    results = to_results(rows)
    loaded = Results.load(results.save(tmp_path_factory.mktemp("results")))
    assert_read_back(loaded.rows, results.rows)
    if set(rows["training"]) == {"ce", "sib"}:
        shuffled = to_results(rows.sample(frac=1, random_state=seed))
        keys = ["method", "metric"]
        tables = (r.difference("sib", "ce")[[*keys, "mean", "n", "p_value"]] for r in (results, loaded, shuffled))
        first, *others = (table.astype(dict.fromkeys(keys, str)).to_dict("list") for table in tables)
        for other in others:
            assert other["method"] == first["method"]
            assert other["n"] == first["n"]
            assert other["mean"] == pytest.approx(first["mean"], **APPROX)
