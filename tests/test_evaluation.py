"""Evaluation: rows, independence of the batch size, intervals, saving and loading."""

import numpy as np
import pandas as pd
import pytest
import torch

from sibx import METHODS, METRICS, Results, evaluate
from sibx.attribution import MethodSpec
from sibx.datasets import InMemoryDataset
from sibx.evaluation import bootstrap_difference, bootstrap_mean, mean_over_seeds
from sibx.evaluation.results import COLUMNS, CURVE_COLUMNS
from sibx.metrics import MetricSpec, foreground_focus
from sibx.models import TinyCNN


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return TinyCNN(8, width=8).eval()


@pytest.fixture(scope="module")
def results(net, shapes):
    names = {"model": "tiny_cnn", "training": "ce"}
    return evaluate(net, shapes, methods=["sib", "gradcam", "control_center"], metrics=list(METRICS), labels=names)


class TestEvaluate:
    def test_one_row_per_image_method_and_metric(self, results):
        assert tuple(results.rows.columns) == COLUMNS
        assert len(results.rows) == 24 * 3 * len(METRICS)
        assert not results.rows.duplicated(["image_id", "method", "metric"]).any()
        assert set(results.rows["split"]) == {"test-id"}
        assert set(results.rows["training"]) == {"ce"}

    def test_curves(self, results):
        assert tuple(results.curves.columns) == CURVE_COLUMNS
        assert len(results.curves) == 24 * 3 * 2 * 29
        which = "image_id == 'test-id-0-000005' and method == 'gradcam'"
        curve = results.curves.query(f"curve == 'deletion' and {which}")
        row = results.rows.query(f"metric == 'deletion' and {which}")
        assert np.trapezoid(curve["y"], curve["x"]) == pytest.approx(row["value"].item())

    def test_values_are_the_functions(self, net, shapes, results):
        from sibx import SIBAttribution

        sample = shapes[7]
        with torch.no_grad():
            target = net(sample.image[None]).argmax(1)
        maps = SIBAttribution(net).attribute(sample.image[None], target=target)
        expected = foreground_focus(torch.linalg.vector_norm(maps, dim=1, keepdim=True), sample.mask[None])
        row = results.rows.query("method == 'sib' and metric == 'foreground_focus' and image_id == @sample.id")
        assert row["value"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert row["target"].item() == row["predicted"].item() == target.item()

    def test_batch_size_does_not_matter(self, net, shapes):
        few = InMemoryDataset.load(shapes, range(7))
        options = {"methods": ["sib", "smoothgrad", "control_random"], "metrics": ["foreground_focus", "deletion"]}
        a, b = (evaluate(net.double(), _double(few), batch_size=size, **options).rows for size in (7, 2))
        net.float()
        keys = ["image_id", "method", "metric"]
        a, b = (r.sort_values(keys)["value"].to_numpy() for r in (a, b))
        assert a == pytest.approx(b)

    def test_target_label(self, net, shapes):
        few = InMemoryDataset.load(shapes, range(5))
        rows = evaluate(net, few, methods=["saliency"], metrics=["pointing_game"], target="label").rows
        assert (rows["target"] == rows["label"]).all()

    def test_train_mode_comes_back(self, net, shapes):
        net.train()
        evaluate(net, InMemoryDataset.load(shapes, [0, 1]), methods=["sib"], metrics=["foreground_focus"])
        assert net.training
        net.eval()

    def test_own_specs(self, net, shapes):
        class Ones:
            def attribute(self, inputs, target=None):
                return torch.ones_like(inputs)

        method = MethodSpec("ones", "Ones", lambda *_: Ones(), "here")
        metric = MetricSpec(
            "area", "Area", lambda e: e.masks.double().mean((1, 2, 3)), True, (0, 1), "", True, False, ""
        )
        rows = evaluate(net, InMemoryDataset.load(shapes, [0, 1]), methods=[method], metrics=[metric]).rows
        assert rows["value"].tolist() == [shapes[i].mask.double().mean().item() for i in (0, 1)]

    def test_metrics_may_explain_again_and_see_signs(self, net, shapes):
        """The sign comes along where it means something: not for the norm of a gradient."""
        seen = {}

        def look(e):
            seen[e.attributions is None] = e
            return (e.explain(e.images, e.targets) - e.heatmaps).abs().amax((1, 2, 3)).double()

        metric = MetricSpec("again", "Again", look, True, (0, 0), "", False, False, "")
        two = InMemoryDataset.load(shapes, [0, 1])
        rows = evaluate(net, two, methods=["input_x_gradient", "saliency"], metrics=[metric]).rows
        assert (rows["value"] == 0).all()
        signed = seen[False]
        assert (signed.attributions < 0).any()
        assert torch.equal(signed.attributions.clamp(min=0), signed.heatmaps)
        assert seen[True].heatmaps.shape == signed.attributions.shape

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"methods": ["gradcma"]}, "`methods` must be one of .*did you mean 'gradcam'"),
            ({"metrics": ["pointing"]}, "`metrics` must be one of .*did you mean 'pointing_game'"),
            ({"methods": ["sib", "sib"]}, r"`methods` must name at least one and none twice, but got \['sib', 'sib'\]"),
            ({"metrics": []}, "`metrics` must name at least one"),
            ({"target": "truth"}, "`target` must be one of predicted, label"),
            ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ],
    )
    def test_errors(self, change, message, net, shapes):
        good = {"methods": ["sib"], "metrics": ["foreground_focus"]}
        with pytest.raises(ValueError, match=message):
            evaluate(net, shapes, **{**good, **change})

    def test_empty_data_set(self, net, shapes):
        with pytest.raises(ValueError, match="`dataset` must hold at least one image"):
            evaluate(net, InMemoryDataset(shapes, []), methods=["sib"], metrics=["foreground_focus"])


def _double(data):
    return InMemoryDataset(data, [s._replace(image=s.image.double()) for s in data.samples])


class TestResults:
    def test_summary(self, results):
        summary = results.summary()
        assert len(summary) == 3 * len(METRICS)
        line = summary.query("method == 'sib' and metric == 'foreground_focus'").iloc[0]
        cell = results.rows.query("method == 'sib' and metric == 'foreground_focus'")
        assert line["mean"] == pytest.approx(cell["value"].mean())
        assert line["low"] < line["mean"] < line["high"]
        assert line["class_mean"] == pytest.approx(cell.groupby("label")["value"].mean().mean())
        assert (line["n"], line["undefined"]) == (24, 0)
        with pytest.raises(ValueError, match="`by` must be one of"):
            results.summary(["methods"])

    def test_difference(self, results):
        better = results.rows.assign(training="sib", value=results.rows["value"] + 0.25)
        both = Results.concat([results, Results(better, results.curves)])
        table = both.difference("sib", "ce")
        assert len(table) == 3 * len(METRICS)
        assert table["mean"].to_numpy() == pytest.approx(0.25)
        with pytest.raises(ValueError, match="`reference` must be one of ce, sib"):
            both.difference("sib", "none")

    def test_save_and_load(self, results, tmp_path):
        undefined = Results(results.rows.assign(value=np.nan), results.curves, results.info)
        for original in (results, undefined):
            loaded = Results.load(original.save(tmp_path / "run"))
            pd.testing.assert_frame_equal(loaded.rows, original.rows)
            pd.testing.assert_frame_equal(loaded.curves, original.curves)
            assert loaded.info["images"] == 24
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["curves.csv.gz", "results.csv.gz", "run.json"]

    def test_same_rows_give_the_same_file(self, results, tmp_path):
        a, b = (results.save(tmp_path / n) / "results.csv.gz" for n in ("a", "b"))
        assert a.read_bytes() == b.read_bytes()

    def test_load_names_what_is_missing(self, tmp_path):
        with pytest.raises(ValueError, match="`folder` must hold results"):
            Results.load(tmp_path)

    def test_columns_are_required(self):
        with pytest.raises(ValueError, match="`rows` must have the columns"):
            Results(pd.DataFrame({"value": [1.0]}), pd.DataFrame())

    def test_concat_needs_parts(self):
        with pytest.raises(ValueError, match="`parts` must hold at least one Results"):
            Results.concat([])


class TestStatistics:
    def test_interval_of_a_normal_mean(self):
        values = np.random.default_rng(0).normal(3, 2, size=400)
        interval = bootstrap_mean(values)
        half = 1.96 * values.std() / 20
        assert interval.mean == pytest.approx(values.mean())
        assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
        assert interval.high == pytest.approx(values.mean() + half, abs=0.02)

    def test_undefined_values_are_counted(self):
        interval = bootstrap_mean(np.array([1.0, np.nan, 1.0]))
        assert interval == (1.0, 1.0, 1.0, 2, 1)
        nothing = bootstrap_mean(np.array([np.nan]))
        assert np.isnan(nothing.mean)
        assert (nothing.n, nothing.undefined) == (0, 1)

    def test_difference_is_paired(self):
        a = np.random.default_rng(0).normal(size=100)
        assert bootstrap_difference(a + 0.1, a).low == pytest.approx(0.1)

    def test_errors(self):
        with pytest.raises(ValueError, match="`values` must be one-dimensional"):
            bootstrap_mean(np.zeros((2, 2)))
        with pytest.raises(ValueError, match=r"`reference` must have the shape \(2,\)"):
            bootstrap_difference(np.zeros(2), np.zeros(3))


def test_methods_of_the_table_run(shapes):
    """Every method with a localization metric; a ReLU network, which the guided methods need."""
    net = TinyCNN(8, width=4, activation="relu")
    few = InMemoryDataset.load(shapes, range(3))
    rows = evaluate(net, few, methods=list(METHODS), metrics=["foreground_focus"]).rows
    assert len(rows) == 3 * len(METHODS)
    assert rows["value"].dropna().between(0, 1).all()


class TestMeanOverSeeds:
    def test_students_interval(self):
        """The 97.5 % quantile of Student's t with 4 degrees of freedom is 2.776."""
        values = np.array([0.1, 0.3, 0.2, 0.4, 0.5])
        interval = mean_over_seeds(values)
        assert interval.mean == pytest.approx(0.3)
        reach = 2.7764451 * np.std(values, ddof=1) / np.sqrt(5)
        assert (interval.low, interval.high) == pytest.approx((0.3 - reach, 0.3 + reach))

    def test_undefined_and_few(self):
        assert mean_over_seeds(np.array([0.1, np.nan, 0.3]))[3:] == (2, 1)
        assert mean_over_seeds(np.array([0.1])) == (0.1, -np.inf, np.inf, 1, 0)
        assert np.isnan(mean_over_seeds(np.array([np.nan])).low)

    def test_errors(self):
        with pytest.raises(ValueError, match="`values` must be one-dimensional, one per run"):
            mean_over_seeds(np.zeros((2, 2)))
        with pytest.raises(ValueError, match="`level` must lie in"):
            mean_over_seeds(np.zeros(3), level=2)
