"""Evaluations of images with several labels: a row for every class present, and scores of every label."""

import numpy as np
import pandas as pd
import pytest
import torch

from sibx import evaluate, evaluate_reliance, evaluate_robustness, explain
from sibx.datasets import InMemoryDataset
from sibx.evaluation import label_scores
from sibx.metrics import deletion, foreground_focus
from sibx.models import TinyCNN
from sibx.report import make_gallery
from tests.helpers.several import LABELS, Several, several

OPTIONS = {"output": "sigmoid", "progress": False}


@pytest.fixture
def labeler():
    torch.manual_seed(0)
    return TinyCNN(4, width=8).eval()


def test_a_row_for_every_class_present(labeler):
    """Each is explained, with its own mask and its own probability."""
    data = several()
    results = evaluate(
        labeler, data, methods=["saliency"], metrics=["foreground_focus", "deletion"], target="label", **OPTIONS
    )
    rows = results.rows.set_index(["image_id", "metric"])
    assert len(rows) == 18
    for sample in data.samples:
        for place, label in enumerate((sample.label == 1).nonzero().flatten()):
            row = rows.loc[f"{sample.id}/{'abcd'[label]}"]
            assert set(row["label"]) == set(row["target"]) == {int(label)}
            images, target = sample.image[None], label[None]
            heatmaps = explain(labeler, images, "saliency", target, output="sigmoid")
            focus = foreground_focus(heatmaps, sample.mask[place][None, None])
            area = deletion(labeler, images, heatmaps, target, output="sigmoid").auc
            assert row.loc["foreground_focus", "value"] == pytest.approx(focus.item(), rel=1e-4)
            assert row.loc["deletion", "value"] == pytest.approx(area.item(), rel=1e-4)


def test_a_label_is_right_by_itself():
    """Three certain labels are all right, whichever is largest; the fourth never is."""
    data = several()

    def model(images):
        return torch.tensor([[3.0, 5.0, 1.0, -1.0]]).repeat(len(images), 1)

    options = {"methods": ["control_center"], "metrics": ["iou"], "target": "label"}
    results = evaluate(model, data, **options, **OPTIONS)
    right = results.hits().rows.groupby("label", observed=True)["value"].mean()
    assert right.to_dict() == {0: 1, 1: 1, 2: 1, 3: 0}
    assert set(results.rows[results.rows["label"] == 3]["predicted"]) == {1}
    under = evaluate_reliance(model, data, backgrounds=["only_fg"], **OPTIONS).rows
    assert (under.groupby("label", observed=True)["value"].mean() == right).all()


def test_under_attack(labeler):
    """The attack of a row is on its own label."""
    options = {"epsilons": [8 / 255], "steps": 2, "severities": [1], "corruptions": ["contrast"]}
    rows = evaluate_robustness(labeler, several(), **options, **OPTIONS).rows
    assert len(rows) == 9 * 5
    means = rows.groupby("metric", observed=True)["value"].mean()
    assert means["pgd_8"] <= means["clean"]


def test_pictures(labeler):
    items = make_gallery({"ce": labeler}, several(), methods=["saliency"], images=3, target="label", output="sigmoid")
    assert [i.id for i in items] == ["image-0/a", "image-0/c", "image-1/b"]  # one of every class


class TestLabelScores:
    def test_by_hand(self):
        """Average precision, the share of pairs in the right order, and F1, from their definitions."""
        data = several()
        draw = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
        lookup = {tuple(s.image.flatten()[:3].tolist()): row for s, row in zip(data.samples, draw, strict=True)}

        def model(images):
            return torch.stack([lookup[tuple(i.flatten()[:3].tolist())] for i in images])

        table = label_scores(model, data, batch_size=4).set_index("label")
        truth = np.array(LABELS)
        for k, name in enumerate("abcd"):
            known = ~np.isnan(truth[:, k])
            z, y = draw[known, k].numpy(), truth[known, k]
            order = np.argsort(-z)
            precisions = [y[order][: i + 1].mean() for i in range(len(y)) if y[order][i]]
            pairs = [float(a > b) for a in z[y == 1] for b in z[y == 0]]
            found = z > 0
            f1 = 2 * (found * y).sum() / (found.sum() + y.sum())
            line = table.loc[name]
            assert (line["known"], line["positive"]) == (known.sum(), y.sum())
            assert line["average_precision"] == pytest.approx(np.mean(precisions))
            assert line["roc_auc"] == pytest.approx(np.mean(pairs))
            assert line["f1"] == pytest.approx(f1)
            assert line["recall"] == pytest.approx((found * y).sum() / y.sum())
            precision = (found * y).sum() / found.sum() if found.any() else np.nan
            assert line["precision"] == pytest.approx(precision, nan_ok=True)

    def test_one_label_per_image(self, shapes):
        """Every class against the rest, for K logits; for a single one both classes, one of which is positive."""
        torch.manual_seed(0)
        network = TinyCNN(8, width=4).eval()
        table = label_scores(network, shapes).set_index("label")
        chances = network(torch.stack([s.image for s in shapes])).softmax(1).detach().numpy()
        labels = shapes.labels.numpy()
        for k, name in enumerate(shapes.classes):
            p, y, found = chances[:, k], labels == k, chances.argmax(1) == k
            pairs = [(a > b) + 0.5 * (a == b) for a in p[y] for b in p[~y]]
            assert table.loc[name, "roc_auc"] == pytest.approx(np.mean(pairs))
            assert table.loc[name, "f1"] == pytest.approx(2 * (found & y).sum() / (found.sum() + y.sum()))
            assert table.loc[name, "positive"] == y.sum()

    def test_a_single_logit(self, shapes):
        """The scores of its twin with two logits."""
        network, twin = TinyCNN(1, width=4).eval(), TinyCNN(2, width=4).eval()
        twin.features = network.features
        with torch.no_grad():
            for part in ("weight", "bias"):
                z = getattr(network.classifier, part)
                getattr(twin.classifier, part).copy_(torch.cat([torch.zeros_like(z), z]))
        data = InMemoryDataset(shapes, [s._replace(label=s.label % 2) for s in shapes.samples])
        data.classes = ("free", "defect")
        pd.testing.assert_frame_equal(label_scores(network, data, output="sigmoid"), label_scores(twin, data))
        assert label_scores(network, data)["roc_auc"].nunique() == 1

    def test_a_label_that_is_never_there(self, labeler):
        class Without(Several):
            def __getitem__(self, index):
                sample = super().__getitem__(index)
                return sample._replace(label=sample.label.masked_fill(torch.arange(4) == 3, 0))

        line = label_scores(labeler, Without()).iloc[3]
        assert line[["average_precision", "roc_auc", "f1", "precision", "recall"]].isna().all()
        assert line["positive"] == 0

    def test_scores_that_are_no_numbers(self, labeler):
        found = label_scores(lambda images: torch.full_like(labeler(images), torch.nan), Several())
        assert found[["average_precision", "roc_auc"]].isna().all(axis=None)

    def test_errors(self, labeler, shapes):
        with pytest.raises(
            ValueError, match="`output` must be 'sigmoid' for several labels per image, but got 'softmax'"
        ):
            label_scores(labeler, several(), output="softmax")
        with pytest.raises(ValueError, match="`model` must have a score for each of 8 classes, but got 4"):
            label_scores(labeler, InMemoryDataset.load(shapes, [0]))
        with pytest.raises(ValueError, match=r"`labels` must be a floating-point tensor of shape \(6, 2\)"):
            label_scores(lambda x: labeler(x)[:, :2], several())


def test_the_class_explained_is_that_of_the_row(labeler):
    options = {"methods": ["saliency"], "metrics": ["iou"], "progress": False}
    results = evaluate(labeler, several(), **options)  # labels and sigmoid by themselves
    assert results.rows["target"].equals(results.rows["label"])
    assert results.rows.equals(evaluate(labeler, several(), target="label", output="sigmoid", **options).rows)
    items = make_gallery({"ce": labeler}, several(), methods=["saliency"], images=3)
    assert [i.id for i in items] == ["image-0/a", "image-0/c", "image-1/b"]
    for door in (evaluate, lambda m, d, **o: make_gallery({"ce": m}, d, methods=["saliency"], target=o["target"])):
        with pytest.raises(ValueError, match=r"`target` must be 'label' \(the default\) for several labels per image"):
            door(labeler, several(), target="predicted", **options)
