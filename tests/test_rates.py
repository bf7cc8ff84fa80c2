"""Rates beside the accuracy, against scikit-learn and against counting image by image."""

import math

import pytest
import torch
from sklearn import metrics

from sibx._outputs.rates import auroc, average_precision, f1
from sibx.models import classification_rates, hits, probabilities
from tests.references import outputs as slow

NAN = math.nan


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def unequal():
    """Scores and labels of 90 images of four classes, of which the last is rare and one prediction each is a tie."""
    labels = torch.tensor([0] * 50 + [1] * 25 + [2] * 12 + [3] * 3)
    return (draw(90, 4) + torch.eye(4)[labels]).round(decimals=1), labels


def each_mean(score, truth, values):
    return sum(score(truth[:, k], values[:, k]) for k in range(truth.shape[1])) / truth.shape[1]


@pytest.mark.parametrize("columns", [4, 1])
def test_equal_scikit_learn_for_one_label_per_image(columns, unequal):
    scores, labels = unequal
    if columns == 1:
        scores, labels = scores[:, :1], (labels > 1).long()
    found, p = classification_rates(scores, labels), probabilities(scores).numpy()
    said, truth = p.argmax(1), torch.eye(p.shape[1])[labels].numpy()
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, said))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, said, average=None).tolist())
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, said, average="macro"))
    assert found["auroc"] == pytest.approx(each_mean(metrics.roc_auc_score, truth, p))
    assert found["average_precision"] == pytest.approx(each_mean(metrics.average_precision_score, truth, p))
    assert found["majority_rate"] == pytest.approx(max(truth.mean(0)))


def test_equal_scikit_learn_for_several_labels_without_the_unknown():
    scores, labels = draw(60, 3), (draw(60, 3, seed=1) > 0.8).float()
    labels[::7, 1] = NAN
    found = classification_rates(scores, labels, output="sigmoid")
    known = [~labels[:, k].isnan() for k in range(3)]
    columns = [(labels[m, k].numpy(), scores[m, k].sigmoid().numpy()) for k, m in enumerate(known)]

    def mean(score, values):
        return sum(score(t, v) for (t, _), v in zip(columns, values, strict=True)) / 3

    said = [p > 0.5 for _, p in columns]
    assert found["accuracy"] == pytest.approx(float(hits(scores, labels, "sigmoid").nanmean()))
    assert found["balanced_accuracy"] == pytest.approx(mean(metrics.balanced_accuracy_score, said))
    assert found["f1"] == pytest.approx(mean(metrics.f1_score, said))
    assert found["auroc"] == pytest.approx(mean(metrics.roc_auc_score, [p for _, p in columns]))
    assert found["average_precision"] == pytest.approx(mean(metrics.average_precision_score, [p for _, p in columns]))
    always_none = classification_rates(torch.full((60, 3), -1.0), labels, output="sigmoid")
    assert found["majority_rate"] == pytest.approx(always_none["accuracy"])  # every label is there less often than not
    assert always_none["balanced_accuracy"] == 0.5


def test_predictions_alone(unequal):
    scores, labels = unequal
    said = scores.argmax(1)
    found = classification_rates(said, labels)
    of_scores = classification_rates(scores, labels)
    assert {k for k, v in found.items() if v != of_scores[k]} == {"auroc", "average_precision"}
    assert math.isnan(found["auroc"])
    assert math.isnan(found["average_precision"])
    expected = slow.classification_rates(said.tolist(), labels.tolist(), 4)
    assert all(found[name] == pytest.approx(value) for name, value in expected.items())
    more = classification_rates(said, labels, classes=6)
    assert more["recall"] == pytest.approx([*found["recall"], NAN, NAN], nan_ok=True)
    assert more["balanced_accuracy"] == found["balanced_accuracy"]


def test_a_score_that_is_no_number_is_wrong_and_ranks_nothing():
    scores, labels = torch.tensor([[NAN, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    found = classification_rates(scores, labels)
    assert found["accuracy"] == float(hits(scores, labels).mean()) == pytest.approx(2 / 3)
    assert found["recall"] == [0.5, 1.0]
    assert math.isnan(found["auroc"])
    several = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = classification_rates(scores, several, output="sigmoid")
    assert found["accuracy"] == float(hits(scores, several, "sigmoid").mean())
    assert classification_rates(torch.tensor([-1, 0]), torch.tensor([0, 0]))["recall"] == [0.5]


def test_independent_scores_of_one_label(unequal):
    scores, labels = unequal
    found = classification_rates(scores, labels, output="sigmoid")
    assert found["accuracy"] == pytest.approx(float(hits(scores, labels, "sigmoid").mean()))


def test_undefined_rates_are_nan():
    found = classification_rates(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert (found["accuracy"], found["balanced_accuracy"], found["majority_rate"]) == (0.5, 0.5, 1.0)
    for name in ("f1", "auroc", "average_precision"):
        assert math.isnan(found[name]), name
    empty = classification_rates(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert all(math.isnan(value) for name, value in empty.items() if name != "recall")
    unknown = classification_rates(torch.zeros(2, 2), torch.full((2, 2), NAN), output="sigmoid")
    assert all(math.isnan(value) for name, value in unknown.items() if name != "recall")


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_ranked_as_scikit_learn_ranks_them(seed):
    chances, truth = draw(40, seed=seed).round().numpy(), (draw(40, seed=seed + 9) > 0.5).numpy()
    assert auroc(chances, truth) == pytest.approx(metrics.roc_auc_score(truth, chances))
    assert average_precision(chances, truth) == pytest.approx(metrics.average_precision_score(truth, chances))
    assert f1(chances > 0, truth) == pytest.approx(metrics.f1_score(truth, chances > 0))


def test_bad_input():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="`output` must be 'softmax' or 'sigmoid' for an accuracy, but got 'raw'"):
        classification_rates(torch.zeros(2, 2), labels, output="raw")
    with pytest.raises(ValueError, match=r"`answers` must be scores \(N, K\) with N = 2, or"):
        classification_rates(torch.zeros(3, 2), labels)
    with pytest.raises(ValueError, match=r"`labels` must have 3 rows"):
        classification_rates(torch.zeros(3, dtype=torch.int64), labels)
    with pytest.raises(ValueError, match=r"`labels` must lie in 0..0"):
        classification_rates(torch.zeros(2, dtype=torch.int64), labels, classes=1)
