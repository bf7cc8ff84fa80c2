"""Evaluations by what the model's numbers are: binary models, several labels, raw scores, and models with a softmax."""

import pandas as pd
import pytest
import torch
from torch import nn

from sibx import evaluate, evaluate_reliance, evaluate_robustness, explain
from sibx.datasets import InMemoryDataset
from sibx.metrics import METRICS, deletion, insertion, irof, superpixels
from sibx.report.cards import model_cards
from sibx.report.claims import make_claims

BY_PROBABILITY = ("deletion", "insertion", "road", "irof", "average_drop", "increase_in_confidence", "adcc", "srg")
BY_LOGIT = ("sensitivity_n", "random_logit")


@pytest.fixture(scope="module")
def two_classes(shapes):
    data = InMemoryDataset(shapes, [s._replace(label=i % 2) for i, s in enumerate(shapes.samples[:4])])
    data.classes = shapes.classes[:2]
    return data


def scores_of(results, *columns):
    return results.rows.set_index(["image_id", "method", "metric"])[list(columns) or ["value"]]


class Certain(nn.Module):
    """Two of four labels are certain, whatever the image."""

    def forward(self, x):
        return torch.tensor([[6.0, 6.0, -6.0, -6.0]]).repeat(len(x), 1) + 0 * x.mean((1, 2, 3))[:, None]


class TestBinary:
    @pytest.mark.parametrize("target", ["predicted", "label"])
    def test_one_logit_scores_as_two(self, binary, two_classes, target):
        """Softmax over one column is 1: deletion and insertion were 1 for every map, ROAD was 0, all was class 0."""
        tables = [
            evaluate(
                network,
                two_classes,
                methods=["saliency", "control_random"],
                metrics=[*BY_PROBABILITY, *BY_LOGIT],
                target=target,
                progress=False,
            )
            for network in binary
        ]
        one, two = (scores_of(t, "value", "predicted", "confidence", "target") for t in tables)
        pd.testing.assert_frame_equal(one, two, rtol=1e-4, atol=1e-6)
        values = one["value"].unstack("method").xs("deletion", level="metric")
        assert (values["saliency"] != values["control_random"]).all()
        pd.testing.assert_frame_equal(tables[0].accuracy(), tables[1].accuracy())

    def test_both_classes_are_predicted(self, binary, two_classes):
        one, _ = binary
        images = torch.stack([s.image for s in two_classes.samples])
        middle = one(images).median()

        def shifted(x):
            return 20 * (one(x) - middle)

        table = evaluate(shifted, two_classes, methods=["control_center"], metrics=["iou"], progress=False)
        assert set(table.rows["predicted"]) == {0, 1}
        expected = shifted(images).sigmoid().squeeze(1)
        assert table.rows["confidence"].tolist() == pytest.approx(torch.maximum(expected, 1 - expected).tolist())

    def test_with_other_backgrounds(self, binary, two_classes):
        tables = [evaluate_reliance(n, two_classes, backgrounds=["only_fg"], progress=False) for n in binary]
        pd.testing.assert_frame_equal(*(scores_of(t, "value", "predicted", "confidence") for t in tables))

    def test_attacked_and_corrupted(self, binary, two_classes):
        """Attacks climb the loss of either class."""
        options = {"epsilons": [4 / 255], "steps": 2, "severities": [1], "corruptions": ["contrast"]}
        tables = [evaluate_robustness(n, two_classes, **options, progress=False) for n in binary]
        pd.testing.assert_frame_equal(*(scores_of(t, "value", "predicted") for t in tables))


class TestSeveralLabels:
    def test_two_certain_labels(self, two_classes):
        """Confidence was .5 for each of two certain labels."""
        options = {"methods": ["control_center"], "metrics": ["deletion"], "progress": False}
        table = evaluate(Certain(), two_classes, **options)
        assert table.rows["confidence"].tolist() == pytest.approx([0.5] * 4, abs=1e-5)
        table = evaluate(Certain(), two_classes, output="sigmoid", **options)
        assert table.rows["confidence"].tolist() == pytest.approx([0.99753] * 4, abs=1e-5)
        assert table.rows["value"].tolist() == pytest.approx([0.99753] * 4, abs=1e-5)
        assert table.info["output"] == "sigmoid"


class TestRaw:
    def test_scores_stand_for_probabilities(self, model, two_classes):
        """Curves, ROAD and IROF are of the score itself; the class explained is that of the largest."""
        metrics = ["deletion", "insertion", "road", "irof"]
        table = evaluate(model, two_classes, methods=["saliency"], metrics=metrics, output="raw", progress=False)
        images = torch.stack([s.image for s in two_classes.samples])
        with torch.no_grad():
            scores = model(images).double()
        highest, targets = scores.max(1)
        assert table.rows["target"].tolist() == targets.repeat_interleave(4).tolist()
        assert table.rows["confidence"].tolist() == pytest.approx(highest.repeat_interleave(4).tolist())

        maps = explain(model, images, "saliency", targets)
        case = (model, images, maps, targets)
        expected = {
            "deletion": deletion(*case, output="raw").auc,
            "insertion": insertion(*case, output="raw").auc,
            "irof": irof(*case, superpixels(images, two_classes.normalization), output="raw"),
        }
        found = scores_of(table)["value"].unstack("metric")
        for name, values in expected.items():
            assert found[name].tolist() == pytest.approx(values.tolist(), nan_ok=True)
        first = deletion(*case, output="raw").probabilities[:, 0]
        assert first.tolist() == pytest.approx(highest.tolist())

    def test_nothing_is_right_or_wrong(self, model, two_classes, tmp_path):
        table = evaluate(model, two_classes, methods=["saliency"], metrics=["iou"], output="raw", progress=False)
        assert set(table.rows["predicted"]) == {-1}
        line = table.accuracy().iloc[0]
        assert (line["n"], line["undefined"]) == (0, 4)
        loaded = type(table).load(table.save(tmp_path))
        assert loaded.accuracy().iloc[0]["n"] == 0
        (card,) = model_cards(table)
        assert "scores without classes have no accuracy" in str(card)

    def test_claims_leave_accuracy_out(self, model, two_classes):
        parts = [
            evaluate(
                model,
                two_classes,
                methods=["saliency"],
                metrics=["iou"],
                output="raw",
                labels={"training": name},
                progress=False,
            )
            for name in ("ce", "sib")
        ]
        claims = make_claims(type(parts[0]).concat(parts))
        assert "accuracy" not in {c.metric for c in claims}

    @pytest.mark.parametrize("run", [evaluate_reliance, evaluate_robustness])
    def test_no_accuracy_to_measure(self, run, model, two_classes):
        with pytest.raises(ValueError, match="`output` must be 'softmax' or 'sigmoid' where predictions are right"):
            run(model, two_classes, output="raw", progress=False)

    def test_a_share_of_what_is_missing_to_one(self, model, two_classes):
        with pytest.raises(ValueError, match="`output` must be 'softmax' or 'sigmoid' for average_gain"):
            evaluate(model, two_classes, methods=["saliency"], metrics=["average_gain"], output="raw", progress=False)


class TestNotice:
    def test_a_network_with_a_softmax(self, model, two_classes):
        """Its probabilities went through a softmax again: confidence .475 for 1.0, deletion .304 for .518."""
        ended = nn.Sequential(model, nn.Softmax(1))
        options = {"methods": ["control_center"], "metrics": ["deletion", "average_drop"], "progress": False}
        with pytest.warns(UserWarning, match="seems to end in a softmax, and output='auto'"):
            evaluate(ended, two_classes, **options)
        plain = evaluate(model, two_classes, **options)
        pd.testing.assert_frame_equal(
            scores_of(evaluate(ended, two_classes, output="raw", **options), "value", "confidence", "target"),
            scores_of(plain, "value", "confidence", "target"),
            rtol=1e-2,
            atol=1e-6,
        )


WITH_THEIR_CURVES = {"sic", "aic"}  # tests/metrics/curves/test_information.py, of a network that is sure


def test_every_score_that_runs_the_model_is_tried():
    """Of scores that do not follow from these."""
    tried = {*BY_PROBABILITY, *BY_LOGIT}
    derived = {n for n in METRICS if n.startswith(("normalized_", "road_")) or n in ("lerf", "aopc", "average_gain")}
    derived |= {n for n in METRICS if n.startswith("relative_")}
    derived |= {"insertion_minus_deletion", "infidelity", "max_sensitivity", "randomization", "smooth_randomization"}
    derived |= {"complexity_rise", "completeness", "single_deletion", *WITH_THEIR_CURVES}
    assert {n for n, s in METRICS.items() if s.needs_model} <= tried | derived


def test_an_unknown_output(model, two_classes):
    with pytest.raises(ValueError, match="`output` must be one of auto, softmax, sigmoid, raw"):
        evaluate(model, two_classes, methods=["saliency"], metrics=["iou"], output="logits", progress=False)
