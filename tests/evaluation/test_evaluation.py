"""Evaluation: rows, independence of the batch size, intervals, saving and loading."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sibx import METHODS, METRICS, Results, evaluate
from sibx.attribution import MethodSpec, build_method
from sibx.datasets import InMemoryDataset
from sibx.evaluation import Interval, bootstrap_difference, bootstrap_mean, mean_over_seeds
from sibx.evaluation.columns import COLUMNS, CURVE_COLUMNS
from sibx.evaluation.request import read_metrics
from sibx.metrics import MetricSpec, foreground_focus
from sibx.models import TinyCNN
from tests.helpers.methods import quick_spec
from tests.helpers.tables import assert_read_back


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
        # deletion, insertion, lerf; 9 layers; n; ROAD; sic, aic; thresholds of the IoU
        assert len(results.curves) == 24 * 3 * (3 * 29 + 10 + 3 + 18 + 2 * 21 + 100)
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

    def test_rows_are_in_the_order_of_images_methods_and_metrics(self, shapes, results):
        rows = results.rows
        assert rows["image_id"].unique().tolist() == [s.id for s in shapes.samples]
        first = rows[rows["image_id"] == shapes[0].id]
        assert first.index.tolist() == list(range(3 * len(METRICS)))
        assert first["method"].unique().tolist() == ["sib", "gradcam", "control_center"]
        assert first["metric"].tolist() == 3 * list(METRICS)

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
            name="area", title="Area", score=lambda e: e.masks.double().mean((1, 2, 3)), higher_is_better=True
        )
        rows = evaluate(net, InMemoryDataset.load(shapes, [0, 1]), methods=[method], metrics=[metric]).rows
        assert rows["value"].tolist() == [shapes[i].mask.double().mean().item() for i in (0, 1)]

    def test_metrics_may_explain_again_and_see_signs(self, net, shapes):
        """The sign comes along where it means something: not for the norm of a gradient."""
        seen = {}

        def look(e):
            seen[e.attributions is None] = e
            return (e.explain(e.images, e.targets) - e.heatmaps).abs().amax((1, 2, 3)).double()

        metric = MetricSpec(name="again", title="Again", score=look, higher_is_better=True)
        two = InMemoryDataset.load(shapes, [0, 1])
        rows = evaluate(net, two, methods=["input_x_gradient", "saliency"], metrics=[metric]).rows
        assert (rows["value"] == 0).all()
        signed = seen[False]
        assert (signed.attributions < 0).any()
        assert torch.equal(signed.attributions.clamp(min=0), signed.heatmaps)
        assert seen[True].heatmaps.shape == signed.attributions.shape

    @pytest.mark.parametrize("score", [lambda e: e.masks.double(), lambda e: [0.5] * len(e.masks)])
    def test_metrics_return_a_score_per_image(self, score, net, shapes):
        metric = MetricSpec(name="odd", title="Odd", score=score, higher_is_better=True)
        message = r"`metrics\['odd'\]` must return a tensor of shape \(2,\), one score per image, but got"
        with pytest.raises(ValueError, match=message):
            evaluate(net, InMemoryDataset.load(shapes, [0, 1]), methods=["saliency"], metrics=[metric])

    def test_functions_as_methods(self, net, shapes):
        few = InMemoryDataset.load(shapes, range(3))
        methods = {"mine": blob, "again": METHODS["sib"], "saliency": "saliency"}
        rows = evaluate(net, few, methods=methods, metrics=["foreground_focus", "iou"]).rows
        assert rows["method"].unique().tolist() == list(methods)
        expected = [foreground_focus(blob(s.image[None], None), s.mask[None]).item() for s in few.samples]
        assert rows.query("method == 'mine' and metric == 'foreground_focus'")["value"].tolist() == expected
        known = evaluate(net, few, methods=["sib", "saliency"], metrics=["foreground_focus", "iou"]).rows
        assert rows[rows["method"] != "mine"]["value"].tolist() == known["value"].tolist()

    def test_functions_as_models(self, net, shapes):
        few = InMemoryDataset.load(shapes, range(3))
        layered = "relative_representation_stability"  # a function has no layers
        free = [name for name, spec in METRICS.items() if not spec.needs_module and name != layered]
        request = {"methods": ["sib", "saliency", "control_center"], "metrics": free}
        as_function, as_module = (evaluate(m, few, **request) for m in (lambda images: net(images), net))
        pd.testing.assert_frame_equal(as_function.rows, as_module.rows, check_exact=True)
        pd.testing.assert_frame_equal(as_function.curves, as_module.curves, check_exact=True)
        assert as_function.info["device"] == "cpu"

    @pytest.mark.parametrize("name", [n for n, s in METHODS.items() if s.needs_layer or s.needs_module])
    def test_a_function_has_no_layers(self, name, shapes):
        message = rf"`methods` must need no module for a model that is not a torch.nn.Module, but got \['{name}'\]"
        with pytest.raises(ValueError, match=message):
            evaluate(lambda images: images, shapes, methods=["sib", name], metrics=["iou"])

    @pytest.mark.parametrize("name", [n for n, s in METHODS.items() if s.needs_layer])
    def test_a_stage_is_the_layer_that_it_names(self, name, shapes):
        torch.manual_seed(0)
        steps = [nn.Sequential(nn.Conv2d(3 if i == 0 else 6, 6, 3, 2, 1), nn.ReLU()) for i in range(3)]
        network = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)).eval()
        few = InMemoryDataset.load(shapes, range(2))
        request = {"methods": [name], "metrics": ["foreground_focus"]}
        by_stage, by_name, last = (
            evaluate(network, few, layer=layer, **request).rows["value"].tolist() for layer in ("stage:-2", "1", None)
        )
        assert by_stage == by_name != last
        with pytest.raises(ValueError, match="`layer` must be a stage of Sequential, which has 3"):
            evaluate(network, few, layer="stage:-4", **request)

    @pytest.mark.parametrize("name", [n for n, s in METRICS.items() if s.needs_module])
    def test_metrics_that_change_the_model(self, name, net, shapes):
        """Copies are explained at the copy's layer; a function has no parameters, and explains one model only."""
        few = InMemoryDataset.load(shapes, range(2))
        by_name, by_module = (
            evaluate(net, few, methods=["gradcam"], metrics=[name], layer=layer).rows
            for layer in ("features.3", net.features[3])
        )
        assert by_name["value"].notna().any()
        pd.testing.assert_frame_equal(by_name, by_module)
        other = evaluate(net, few, methods=["gradcam"], metrics=[name]).rows
        assert other["value"].tolist() != by_name["value"].tolist()
        with pytest.raises(ValueError, match="`metrics` must need no module for a model"):
            evaluate(lambda images: net(images), few, methods=["saliency"], metrics=[name])
        with pytest.raises(ValueError, match=r"`metrics` must apply to a method, .*explains one model only"):
            evaluate(net, few, methods={"mine": blob}, metrics=[name])

    def test_align(self, net, shapes):
        """A choice is seen in the scores, in what is said about them, and in what can be resumed."""
        few = InMemoryDataset.load(shapes, range(4))
        options = {"methods": ["gradcam", "sib"], "metrics": ["foreground_focus"]}
        aligns = (None, "receptive_field", "half_pixel")
        default, looked, cells = (evaluate(net, few, align=align, **options) for align in aligns)
        assert default.rows.equals(looked.rows)
        assert [r.info["align"] for r in (default, looked, cells)] == ["receptive_field", *aligns[1:]]
        values = cells.rows.pivot(index="image_id", columns="method", values="value")
        before = default.rows.pivot(index="image_id", columns="method", values="value")
        assert (values["gradcam"] != before["gradcam"]).all()
        assert values["sib"].equals(before["sib"])  # in input space pixels are the units
        maps = build_method("gradcam", net)
        maps.align = "half_pixel"
        images = torch.stack([few[i].image for i in range(4)])
        masks = torch.stack([few[i].mask for i in range(4)])
        expected = foreground_focus(maps.attribute(images, net(images).argmax(1)), masks)
        assert values["gradcam"].to_numpy() == pytest.approx(expected.numpy())

    def test_gradient_cams_share_their_passes(self, net, shapes):
        few = InMemoryDataset.load(shapes, range(4))
        alone = evaluate(net, few, methods=["gradcam"], metrics=["iou"], batch_size=4)  # measures where the layer looks
        passes = {"forward": 0, "backward": 0}
        handles = [
            net.register_forward_hook(lambda *_: passes.update(forward=passes["forward"] + 1)),
            net.classifier.register_full_backward_hook(lambda *_: passes.update(backward=passes["backward"] + 1)),
        ]
        methods = ["layercam", "sib", "gradcam", "hirescam", "gradcam_pp"]
        with_others = evaluate(net, few, methods=methods, metrics=["iou"], batch_size=2, layer="features")
        for handle in handles:
            handle.remove()
        assert passes == {"forward": 2 * 3, "backward": 2 * 2}  # two batches: prediction, CAMs, S-IB
        shared = with_others.rows.query("method == 'gradcam'")["value"]
        assert shared.to_numpy() == pytest.approx(alone.rows["value"].to_numpy())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"methods": ["gradcma"]}, "`methods` must be one of .*did you mean 'gradcam'"),
            ({"metrics": ["pointing"]}, "`metrics` must be one of .*did you mean 'pointing_game'"),
            ({"methods": ["sib", "sib"]}, r"`methods` must name at least one and none twice, but got \['sib', 'sib'\]"),
            ({"metrics": []}, "`metrics` must name at least one"),
            ({"target": "truth"}, "`target` must be one of predicted, label"),
            ({"align": "cells"}, "`align` must be one of receptive_field, half_pixel"),
            ({"batch_size": 0}, "`batch_size` must be at least 1"),
            ({"methods": {}}, "`methods` must name at least one"),
            ({"methods": {"cam": "gradcma"}}, r"`methods\['cam'\]` must be one of .*did you mean 'gradcam'"),
            ({"methods": {"mine": 3}}, r"`methods\['mine'\]` must be a key of METHODS, .*a MethodSpec, .*, but got 3"),
            (
                {"methods": {"mine": lambda images, _: images[:, 0]}},
                r"`methods\['mine'\]` must return floating-point maps .*24, C, H, W.*, but got .* \(24, 32, 32",
            ),
            (
                {"methods": {"mine": lambda images, _: images[:, :1] / 0}},
                r"`methods\['mine'\]` must return finite values, but got 'NaN or inf for 24 of 24'",
            ),
            (
                {"methods": {"mine": lambda images, _: images[:1, :1, ::2]}},
                r"`methods\['mine'\]` must return floating-point maps .*24, C, H, W.*, but got .* \(1, 1, 16, 32\)",
            ),
            (
                {"methods": {"mine": lambda images, _: torch.full_like(images[:, :1], -0.5)}},
                r"`methods\['mine'\]` must return heatmaps that are at least 0 .*, but got -0.5",
            ),
        ],
    )
    def test_errors(self, change, message, net, shapes):
        good = {"methods": ["sib"], "metrics": ["foreground_focus"]}
        with pytest.raises(ValueError, match=message):
            evaluate(net, shapes, **{**good, **change})

    def test_empty_data_set(self, net, shapes):
        with pytest.raises(ValueError, match="`dataset` must hold at least one image"):
            evaluate(net, InMemoryDataset(shapes, []), methods=["sib"], metrics=["foreground_focus"])


class RowWise(torch.nn.Module):
    """A network that computes every image by itself, so that its arithmetic does not depend on the batch."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return torch.cat([self.net(image[None]) for image in images])


def test_metrics_one_or_several():
    assert [m.name for m in read_metrics("iou_at_mean")] == ["iou_at_mean"]
    assert [m.name for m in read_metrics(foreground_focus)] == ["foreground_focus"]
    assert [m.name for m in read_metrics(("iou", "deletion"))] == ["iou", "deletion"]
    for bad in ([], ["iou", "iou"]):
        with pytest.raises(ValueError, match="`metrics` must name at least one and none twice, but got"):
            read_metrics(bad)
    with pytest.raises(ValueError, match=r"`metrics` must be .*, but got 5"):
        read_metrics(5)


def blob(images, targets):
    """A heatmap of the image alone."""
    return images.square().mean(1, keepdim=True)


QUICK = {n: quick_spec(n) for n, s in METHODS.items() if not s.needs_layer and not s.needs_module} | {"mine": blob}


class TestBatchSize:
    @staticmethod
    def score(net, data, methods, metrics, batch_size):
        few = InMemoryDataset.load(data, range(min(4, len(data))))
        return evaluate(net, few, methods=methods, metrics=metrics, batch_size=batch_size, seed=3, progress=False)

    def test_methods(self, net, shapes):
        """To the last bit; but for Integrated Gradients (and XRAI): points share passes with other images' points."""
        sizes = (3, 4)  # of 4 images: three together and one alone, or all together
        rows, together = (self.score(RowWise(net).forward, shapes, QUICK, ["foreground_focus"], s).rows for s in sizes)
        rounded = rows["method"].isin(["integrated_gradients", "xrai"])
        pd.testing.assert_frame_equal(rows[~rounded], together[~rounded], check_exact=True)
        pd.testing.assert_frame_equal(rows[rounded], together[rounded], rtol=1e-6)
        assert rows.groupby("method", observed=True)["value"].count().min() > 0

    def test_metrics(self, net, shapes):
        results, expected = (self.score(RowWise(net), shapes, ["saliency"], list(METRICS), size) for size in (3, 4))
        pd.testing.assert_frame_equal(results.rows, expected.rows, check_exact=True)
        pd.testing.assert_frame_equal(results.curves, expected.curves, check_exact=True)

    def test_layers(self, shapes):
        """In double precision, where what is left of the batch is rounding."""
        torch.manual_seed(0)
        net = TinyCNN(8, width=4, activation="relu").double()
        bound = {n: s.kind for n, s in METHODS.items() if s.needs_layer or s.needs_module}
        methods = [name for name, kind in bound.items() if kind != "attention" and name != "lrp"]
        few = InMemoryDataset(shapes, [s._replace(image=s.image.double()) for s in shapes.samples[:3]])
        rows, expected = (self.score(net, few, methods, ["foreground_focus", "iou"], size).rows for size in (1, 3))
        pd.testing.assert_frame_equal(rows, expected, rtol=1e-6)


class TestResults:
    def test_summary(self, results):
        summary = results.summary()
        assert len(summary) == 3 * len(METRICS)
        line = summary.query("method == 'sib' and metric == 'foreground_focus'").iloc[0]
        cell = results.rows.query("method == 'sib' and metric == 'foreground_focus'")
        assert line["mean"] == pytest.approx(cell["value"].mean())
        assert line["low"] < line["mean"] < line["high"]
        assert line["class_mean"] == pytest.approx(cell.groupby("label", observed=True)["value"].mean().mean())
        assert (line["n"], line["undefined"]) == (24, 0)
        with pytest.raises(ValueError, match="`by` must be one of"):
            results.summary(["methods"])

    def test_difference(self, results):
        better = results.rows.assign(training="sib", value=results.rows["value"] + 0.25)
        both = Results.concat([results, Results(better, results.curves)])
        table = both.difference("sib", "ce")
        assert len(table) == 3 * len(METRICS)
        undefined = table["n"] == 0
        assert set(table[undefined]["metric"]) == {"completeness", "sic"}  # promised by none of these; no image has .8
        assert table[~undefined]["mean"].to_numpy() == pytest.approx(0.25)
        with pytest.raises(ValueError, match="`reference` must be one of ce, sib"):
            both.difference("sib", "none")

    def test_an_image_counts_once(self, results):
        """However many seeds and methods there are: intervals are of images."""
        again = Results(results.rows.assign(seed=1), results.curves)
        twice = Results.concat([results, again])
        pd.testing.assert_frame_equal(twice.summary(), results.summary())
        other = results.rows.assign(seed=1, value=results.rows["value"] + 0.5)
        other.loc[other["image_id"] == results.rows["image_id"].iloc[0], "value"] = np.nan
        pooled = Results.concat([results, Results(other, results.curves)]).summary(["method", "metric"])
        for line in pooled.query("metric == 'foreground_focus'").to_dict("records"):
            values = results.where(method=line["method"], metric="foreground_focus").rows["value"].to_numpy()
            expected = np.array([values[0], *(values[1:] + 0.25)])
            assert (line["mean"], line["n"]) == (pytest.approx(expected.mean()), 24)
        assert results.summary(["metric"])["n"].max() == 24

    def test_difference_over_seeds(self, results):
        def add(rows, amount, seed):
            return rows.assign(training="sib", value=rows["value"] + amount, seed=seed)

        second = results.rows.assign(seed=1)
        sib = [add(results.rows, 0.25, 0), add(second, 0.75, 1)]
        missing = sib[1]["image_id"] == results.rows["image_id"].iloc[0]
        sib[1].loc[missing, "value"] = np.nan
        parts = [results, *(Results(rows, results.curves) for rows in (second, *sib))]
        table = Results.concat(parts).difference("sib", "ce")
        line = table.query("method == 'sib' and metric == 'foreground_focus'").iloc[0]
        assert (line["n"], line["undefined"]) == (24, 0)
        assert line["mean"] == pytest.approx(0.5)  # the mean of .25 and .75, which is over one image less
        assert (line["seeds"], line["low"] < 0) == (2, True)  # over images alone it would lie above .47

    def test_save_and_load(self, results, tmp_path):
        undefined = Results(results.rows.assign(value=np.nan), results.curves, results.info)
        for original in (results, undefined):
            loaded = Results.load(original.save(tmp_path / "run"))
            assert_read_back(loaded.rows, original.rows)
            assert_read_back(loaded.curves, original.curves)
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


class TestInterval:
    FOUND = Interval(0.12345, -0.1, 0.15, 40, 2)

    def test_formats_itself(self):
        assert f"{self.FOUND}" == str(self.FOUND) == "0.123 [-0.100, 0.150]"
        assert f"{self.FOUND:+.2f}" == "+0.12 [-0.10, +0.15]"
        assert f"{self.FOUND:.0%}" == "12% [-10%, 15%]"
        assert f"{mean_over_seeds(np.array([0.5])):.1f}" == "0.5 [-inf, inf]"
        assert f"{bootstrap_mean(np.array([np.nan])):+.3f}" == "undefined"

    @pytest.mark.parametrize(
        ("low", "high", "excluded"),
        [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0, 0.1, False), (-0.1, 0, False)],
    )
    def test_excludes_zero(self, low, high, excluded):
        assert Interval((low + high) / 2, low, high, 9, 0).excludes_zero == excluded
        assert not bootstrap_mean(np.array([np.nan])).excludes_zero

    def test_of_a_line(self, results):
        line = results.summary().iloc[0]
        found = Interval.of(line)
        assert found == Interval.of(line.to_dict())
        assert found._asdict() == {name: line[name] for name in Interval._fields}


def test_methods_of_the_table_run(shapes):
    """Every method with a localization metric; a ReLU network, which the guided methods need, and LRP refuses."""
    net = TinyCNN(8, width=4, activation="relu")
    few = InMemoryDataset.load(shapes, range(3))
    methods = [name for name, spec in METHODS.items() if spec.kind != "attention" and name != "lrp"]
    rows = evaluate(net, few, methods=methods, metrics=["foreground_focus"]).rows
    assert len(rows) == 3 * len(methods)
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
