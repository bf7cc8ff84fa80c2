"""Photographs with several rows are one piece of evidence: intervals, tests and ranks resample photographs."""

import numpy as np
import pandas as pd
import pytest

from sibx import Results, build_dataset, evaluate, write_report
from sibx.datasets import InMemoryDataset, collate, one_per_class
from sibx.evaluation import bootstrap_band, bootstrap_difference, bootstrap_mean, paired_gain, worst_group
from sibx.evaluation.columns import COLUMNS, CURVE_COLUMNS, IMAGE, per_image
from sibx.evaluation.photographs import influences, photographs_of
from sibx.models import TinyCNN
from tests.helpers.several import several

RANDOM = np.random.default_rng(0)
ONCE = ["mean", "low", "high", "n"]


def table(values, copies, *, seeds=1):
    """Rows of results: trainings x seeds x methods x photographs, each photograph with several equal rows."""
    lines = []
    for (training, seed, method), scores in values.items():
        for photo, score in enumerate(scores):
            for row in range(copies[photo]):
                name = f"{photo}/{row}"
                line = {"image_id": name, "photo": str(photo), "training": training, "seed": seed, "method": method}
                lines.append(
                    line | {"value": score, "label": row, "predicted": 0, "confidence": 1.0, "group": photo % 2}
                )
    fixed = {"dataset": "d", "split": "test", "model": "m", "area": 0.5, "target": 0, "metric": "foreground_focus"}
    rows = pd.DataFrame(lines).assign(**fixed)
    return Results(rows[list(COLUMNS)], pd.DataFrame(columns=list(CURVE_COLUMNS)))


@pytest.fixture(scope="module")
def scores():
    cells = [(t, s, m) for t in ("ce", "sib") for s in (0, 1, 2) for m in ("gradcam", "saliency", "sib")]
    shift = {"ce": 0.0, "sib": 0.03}
    return {cell: RANDOM.normal(0.4 + shift[cell[0]], 0.1, size=30) for cell in cells}


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed", "three seeds"])
def both(request, scores):
    """The same photographs with one row each, and with two equal rows each."""
    part = {cell: values for cell, values in scores.items() if cell[1] < request.param}
    return table(part, [1] * 30), table(part, [2] * 30)


class TestDuplicates:
    """What repeats itself says nothing new."""

    def test_summary(self, both):
        single, double = (results.summary() for results in both)
        pd.testing.assert_frame_equal(single[ONCE], double[ONCE])
        assert (double["rows"] == 2 * single["rows"]).all()
        assert (single["rows"] == single["n"]).all()

    def test_difference(self, both):
        single, double = (results.difference("sib", "ce") for results in both)
        columns = [*ONCE, "p_value", "p_holm"]
        pd.testing.assert_frame_equal(single[columns], double[columns])
        assert (double["rows"] == 60).all()

    def test_ranking(self, both):
        single, double = (r.where(training="sib", seed=0).ranking("foreground_focus") for r in both)
        assert single == double
        assert double.n == 30

    def test_worst_group_and_report(self, both, tmp_path):
        single, double = (worst_group(results) for results in both)
        pd.testing.assert_frame_equal(single[ONCE], double[ONCE])
        pages = [write_report(r, tmp_path / str(i)).with_name("report.md").read_text() for i, r in enumerate(both)]
        claims = [page.partition("## Rates")[0].partition("## Summary")[2] for page in pages]
        assert claims[0] == claims[1] != ""

    def test_plain_functions(self):
        values, other = RANDOM.normal(size=(2, 40))
        twice, photos = np.repeat(values, 2), np.repeat(np.arange(40), 2)
        assert bootstrap_mean(twice, photos=photos) == pytest.approx(bootstrap_mean(values))
        gain = bootstrap_difference(twice, np.repeat(other, 2), photos=photos)
        assert gain == pytest.approx(bootstrap_difference(values, other))
        curves = RANDOM.normal(size=(40, 5))
        once, again = bootstrap_band(curves), bootstrap_band(np.repeat(curves, 2, axis=0), photos=photos)
        assert all(np.allclose(a, b) for a, b in zip(once, again, strict=True))

    def test_without_photographs_it_was_too_narrow(self):
        values = RANDOM.normal(size=40)
        honest = bootstrap_mean(values)
        naive = bootstrap_mean(np.repeat(values, 4))
        assert (naive.high - naive.low) < 0.6 * (honest.high - honest.low)


class TestCoverage:
    def test_unequal_photographs(self):
        """Rows of a photograph go together: 95 % intervals hold the mean, those over rows as if alone do not."""
        held = {"photographs": 0, "rows": 0, "three seeds": 0}
        draws, random = 300, np.random.default_rng(1)
        for _ in range(draws):
            photos = np.repeat(np.arange(40), random.integers(1, 6, size=40))
            values = random.normal(size=40)[photos] + 0.3 * random.normal(size=len(photos))
            for name, found in (("photographs", photos), ("rows", None)):
                interval = bootstrap_mean(values, photos=found, resamples=400)
                held[name] += interval.low <= 0 <= interval.high
            names = [np.repeat(np.arange(len(photos)), 3), np.repeat(photos, 3), np.tile(range(3), len(photos))]
            index = pd.MultiIndex.from_arrays(names, names=["image_id", "photo", "seed"])
            seeds = random.normal(size=(len(photos), 3)) * 0.1 + values[:, None]
            gain = paired_gain(pd.Series(seeds.ravel(), index)).interval
            held["three seeds"] += gain.low <= 0 <= gain.high
        shares = {name: count / draws for name, count in held.items()}
        assert 0.9 <= shares["photographs"] <= 0.98
        assert shares["three seeds"] >= 0.92
        assert shares["rows"] < 0.8

    def test_influences_keep_the_mean(self):
        values = RANDOM.normal(size=(50, 3))
        values[RANDOM.random((50, 3)) < 0.2] = np.nan
        photos = np.repeat(np.arange(20), RANDOM.multinomial(50, [1 / 20] * 20))
        assert np.nanmean(influences(values, photos), axis=0) == pytest.approx(np.nanmean(values, axis=0))


def test_rows_of_several_labels():
    rows = collate([one_per_class(several())[i] for i in range(3)])
    assert all(name.startswith(photo + "/") for name, photo in zip(rows.ids, rows.photos, strict=True))


def test_an_evaluation_of_several_labels(tmp_path):
    data = several()
    net = TinyCNN(len(data.classes), width=8).eval()
    options = {"methods": ["saliency"], "metrics": ["foreground_focus"], "target": "label", "output": "sigmoid"}
    results = evaluate(net, data, **options, progress=False, out_dir=tmp_path)
    (line,) = results.summary().to_dict("records")
    assert line["n"] == results.rows["photo"].nunique() < results.rows["image_id"].nunique() == line["rows"]
    assert Results.load(tmp_path).rows.equals(results.rows)


def test_files_of_before(tmp_path):
    data = InMemoryDataset.load(build_dataset("synthetic", image_size=32), range(4))
    results = evaluate(TinyCNN(8).eval(), data, methods=["saliency"], metrics=["iou"], progress=False)
    assert (results.rows["photo"] == results.rows["image_id"]).all()
    Results(results.rows, results.curves).save(tmp_path)
    old = Results(results.rows.drop(columns="photo"), results.curves)
    pd.testing.assert_frame_equal(old.rows, results.rows)


class TestWithoutGroups:
    """Rows of one per image are not grouped: they are what groups would give."""

    @pytest.mark.parametrize("texts", [str, pd.CategoricalDtype(["unused", "a", "b", "c", "x", "y", "d"])])
    @pytest.mark.parametrize("values", [[3, 1, 2], [0.5, np.nan, 0.25]])
    def test_an_image_each(self, values, texts):
        columns = {"image_id": ["b", "c", "a"], "photo": ["x", "x", "y"], "dataset": "d", "split": "d"}
        rows = pd.DataFrame(columns, dtype=texts).assign(label=[2, 0, 2], value=values)
        grouped = rows.groupby(list(IMAGE), sort=False, observed=True)["value"].mean()
        found = per_image(rows)
        assert found.index.tolist() == grouped.index.tolist()
        np.testing.assert_array_equal(found, grouped)
        np.testing.assert_array_equal(photographs_of(found.index), [0, 0, 1])
        assert photographs_of(found.index[1:]) is None

    @pytest.mark.parametrize("name", ["image_id", "label", "seed"])
    def test_a_row_without_a_name_is_refused_as_groups_would_leave_it_out(self, name, both):
        rows = both[0].rows.astype({name: object})
        rows.loc[3, name] = None
        with pytest.raises(ValueError, match=f"`rows` must have a {name} each"):
            Results(rows, both[0].curves)
