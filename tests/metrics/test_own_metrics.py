"""Metrics of one's own: functions that ask by name, specs, module:name."""

import pytest
import torch

from sibx import METRICS, evaluate
from sibx.datasets import InMemoryDataset
from sibx.metrics import MetricSpec, foreground_focus, to_metric
from sibx.models import TinyCNN


def inside(heatmaps, masks):
    return (heatmaps * masks).sum((1, 2, 3)).double() / heatmaps.sum((1, 2, 3))


def spread(targets, heatmaps, model, images, scale=2):
    assert model(images).shape[0] == len(targets) == len(heatmaps)
    return scale * heatmaps.flatten(1).std(1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return TinyCNN(8, width=8).eval()


@pytest.fixture(scope="module")
def few(shapes):
    return InMemoryDataset.load(shapes, range(3))


def test_a_function_gets_what_it_asks_for(net, few):
    results = evaluate(net, few, methods=["saliency"], metrics=[inside, spread, "foreground_focus"], progress=False)
    values = results.rows.pivot(index="image_id", columns="metric", values="value")
    assert values["inside"].to_numpy() == pytest.approx(values["foreground_focus"].to_numpy())
    assert (values["spread"] > 0).all()


def test_what_it_needs_is_known(few):
    assert (to_metric(inside).needs_masks, to_metric(inside).needs_model) == (True, False)
    assert (to_metric(spread).needs_masks, to_metric(spread).needs_model) == (False, True)
    assert to_metric(inside).higher_is_better is None
    assert to_metric("deletion") is METRICS["deletion"]
    assert to_metric(foreground_focus).name == "foreground_focus"  # the plain functions have this form


def test_a_ranking_has_to_be_told_the_direction(net, few):
    results = evaluate(net, few, methods=["saliency", "sib"], metrics=[inside], progress=False)
    with pytest.raises(ValueError, match="`higher_is_better` must be given for inside"):
        results.ranking("inside")
    assert results.ranking("inside", higher_is_better=True).n == 3


def test_imported_by_name(net, few, tmp_path, monkeypatch):
    source = "from sibx.metrics import MetricSpec\n\ndef top(heatmaps):\n    return heatmaps.flatten(1).amax(1)\n\n"
    source += 'SPEC = MetricSpec(name="named", title="Named", score=lambda e: top(e.heatmaps), higher_is_better=True)\n'
    (tmp_path / "my_scores.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    metrics = ["my_scores:top", "my_scores:SPEC"]
    rows = evaluate(net, few, methods=["saliency"], metrics=metrics, progress=False).rows
    assert rows["metric"].unique().tolist() == ["top", "named"]
    assert to_metric("my_scores:SPEC").higher_is_better


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (3, r"`metrics` must be a key of METRICS, module:name, a MetricSpec .*or a function \(heatmaps, masks\)"),
        (torch.Tensor, "a MetricSpec"),
        (lambda: None, "a MetricSpec"),
        (lambda prediction, heatmaps: None, r"a MetricSpec .*but got 'lambda\(prediction, heatmaps\)'"),
        ("fokus", "`metrics` must be one of"),
        (lambda heatmaps: heatmaps, r"`metrics\['lambda'\]` must return a tensor of shape \(3,\)"),
    ],
)
def test_refusals(net, few, metric, message):
    with pytest.raises(ValueError, match=message):
        evaluate(net, few, methods=["saliency"], metrics=[metric], progress=False)


def test_a_spec_goes_by_a_name_of_its_own():
    spec = MetricSpec(name="a", title="A", score=lambda e: e.heatmaps.mean((1, 2, 3)), higher_is_better=False)
    assert to_metric(spec) is spec
    assert to_metric(spec, "b").name == "b"
