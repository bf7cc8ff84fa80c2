"""Differences of several seeds, against their definition."""

import numpy as np
import pytest

from sibx import Results
from tests.helpers.reports import make_results
from tests.references import statistics as reference


def draw(seed):
    """Random scores of four seeds, a tenth of them undefined, a fifth of the rows missing."""
    random = np.random.default_rng(seed)
    results = make_results(
        seeds=(0, 1, 2, 5),
        splits=("a", "b"),
        score=lambda *_: np.nan if random.random() < 0.1 else random.random(),
        curves=False,
    )
    kept = random.random(len(results.rows)) < 0.8
    return Results(results.rows[kept].sample(frac=1, random_state=seed), results.curves)


@pytest.mark.parametrize("seed", range(3))
def test_over_seeds_is_its_definition(seed):
    results = draw(seed)
    table = results.over_seeds("sib", "ce")
    assert len(table) == 2 * 3 * 2
    assert list(table.columns[:5]) == ["dataset", "split", "model", "method", "metric"]
    for line in table.to_dict("records"):
        cell = {name: line[name] for name in ("split", "method", "metric")}
        values = [
            {(r["seed"], r["image_id"]): r["value"] for r in results.where(training=t, **cell).rows.to_dict("records")}
            for t in ("sib", "ce")
        ]
        mean, reach, n = reference.over_seeds(*values)
        assert (line["mean"], line["n"], line["undefined"]) == (pytest.approx(mean), n, 0)
        assert (line["low"], line["high"]) == pytest.approx((mean - reach, mean + reach))


@pytest.mark.parametrize("seed", range(3))
def test_difference_is_its_definition(seed):
    """Of four seeds: for other trainings and other images."""
    results = draw(seed)
    table = results.difference("sib", "ce")
    assert len(table) == 2 * 3 * 2
    for line in table.to_dict("records"):
        cell = {name: line[name] for name in ("split", "method", "metric")}
        values, others = (
            {(r["seed"], r["image_id"]): r["value"] for r in results.where(training=t, **cell).rows.to_dict("records")}
            for t in ("sib", "ce")
        )
        differences = {key: values[key] - others[key] for key in values.keys() & others.keys()}
        expected = reference.over_seeds_and_images(differences)
        assert (line["mean"], line["low"], line["high"]) == pytest.approx(expected)
        assert line["p_value"] == pytest.approx(reference.p_over_seeds_and_images(differences), abs=1e-9)
        assert line["n"] == len({image for (_, image), d in differences.items() if not np.isnan(d)})
        assert line["seeds"] == 4
    for _, family in table.groupby("split", observed=True):
        assert family["p_holm"].tolist() == pytest.approx(reference.holm(family["p_value"].tolist()))


def test_a_seed_without_a_pair_is_undefined():
    results = make_results(seeds=(0, 1, 2), curves=False)
    rows = results.rows
    rows = rows[(rows["seed"] != 2) | (rows["training"] == "ce")]  # sib was not trained with seed 2
    rows.loc[(rows["seed"] == 1) & (rows["method"] == "gradcam"), "value"] = np.nan
    table = Results(rows, results.curves).over_seeds("sib", "ce").set_index(["method", "metric"])
    assert table.loc[("sib", "deletion"), ["n", "undefined"]].tolist() == [2, 1]
    assert table.loc[("gradcam", "deletion"), ["n", "undefined"]].tolist() == [1, 2]
    assert table.loc[("gradcam", "deletion"), "high"] == np.inf
    assert table.loc[("control_center", "deletion"), "mean"] == 0
    pairs = Results(rows, results.curves).difference("sib", "ce").set_index(["method", "metric"])
    assert pairs.loc[("gradcam", "deletion"), "seeds"] == 1  # so it is a bootstrap over images
    assert np.isfinite(pairs.loc[("gradcam", "deletion"), "high"])
    assert pairs.loc[("sib", "deletion"), "seeds"] == 2


def test_a_training_with_itself():
    table = make_results(seeds=(0, 1), curves=False).over_seeds("ce", "ce")
    assert set(table["mean"]) == {0}


@pytest.mark.parametrize("compare", ["over_seeds", "difference"])
def test_errors(compare):
    results = make_results(curves=False)
    with pytest.raises(ValueError, match="`training` must be one of ce, sib, but got 'sbi'"):
        getattr(results, compare)("sbi", "ce")
    with pytest.raises(ValueError, match="`reference` must be one of ce, sib, but got 'none'"):
        getattr(results, compare)("sib", "none")
