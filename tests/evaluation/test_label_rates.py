"""Rates of several labels per image, which rows of the labels that are there do not show."""

import numpy as np
import pytest
import torch

from sibx import Results, evaluate, evaluate_reliance, evaluate_robustness
from sibx.evaluation import drawn, label_scores
from sibx.models import classification_rates
from tests.helpers.several import LABELS, several

TRUTH = torch.tensor(LABELS)
SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).round(decimals=1)
SCORES[3, 1] = SCORES[0, 1]  # a tie of an image with the label and one without it


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(drawn, "RESAMPLES", 60)


def model_of(scores):
    """A model that has these scores (6, K) for the images of ``several()``."""
    firsts = torch.stack([s.image[0, 0, 0] for s in several().samples])
    return lambda images: scores[(images[:, :1, 0, 0] == firsts).int().argmax(1)]


def evaluated(scores, **options):
    settings = {"methods": ["control_center"], "metrics": ["foreground_focus"], "batch_size": 4, "progress": False}
    return evaluate(model_of(scores), several(), **settings | options)


def means(results):
    return results.rates().set_index("metric")["mean"]


def by_hand(scores, truth):
    known = ~truth.isnan()
    said, there = (scores > 0) & known, (truth == 1) & known
    rates = classification_rates(scores, truth, output="sigmoid")
    return {
        "mean_average_precision": rates["average_precision"],
        "label_accuracy": rates["accuracy"],
        "precision": float((said & there).sum() / said.sum()),
        "recall": float((said & there).sum() / there.sum()),
        "lowest_recall": min(r for r in rates["recall"] if r == r),
    } | {name: rates[name] for name in ("f1", "auroc", "balanced_accuracy", "majority_rate")}


def test_they_are_those_of_all_photographs_and_labels():
    results = evaluated(SCORES)
    found = means(results)
    assert found.to_dict() == pytest.approx(by_hand(SCORES, TRUTH))
    assert found["recall"] == results.accuracy()["mean"].item()
    assert results.accuracy()["metric"].item() == "recall"
    assert set(results.rates()["n"]) == {6}  # one photograph has no label, and no row
    scores = label_scores(model_of(SCORES), several())
    assert found["mean_average_precision"] == pytest.approx(scores["average_precision"].mean())
    assert found["auroc"] == pytest.approx(scores["roc_auc"].mean())


def test_intervals_are_those_of_drawn_photographs():
    rates = evaluated(SCORES).rates().set_index("metric")
    draws = [np.random.default_rng(number).integers(6, size=6) for number in range(60)]
    for name in ("mean_average_precision", "f1", "precision", "label_accuracy", "balanced_accuracy"):
        values = [by_hand(SCORES[d], TRUTH[d])[name] for d in draws]
        low, high = np.nanquantile(values, [0.025, 0.975])
        assert (rates.loc[name, "low"], rates.loc[name, "high"]) == pytest.approx((low, high)), name


def test_yes_to_everything_finds_every_label():
    found = means(evaluated(torch.full((6, 4), 3.0)))
    assert found["recall"] == found["lowest_recall"] == 1
    assert found["precision"] == (TRUTH == 1).sum() / (~TRUTH.isnan()).sum()
    assert found["balanced_accuracy"] == found["auroc"] == 0.5
    assert found["label_accuracy"] < found["majority_rate"]


def test_scores_that_are_no_numbers_are_wrong():
    found = means(evaluated(SCORES.masked_fill(torch.arange(6).unsqueeze(1) == 5, torch.nan)))
    assert np.isnan(found["auroc"])
    assert found["recall"] < means(evaluated(SCORES))["recall"]
    assert found["label_accuracy"] == pytest.approx(5 / 6 * np.mean(_shares(SCORES)[:5]))


def _shares(scores):
    known = ~TRUTH.isnan()
    return ((((scores > 0) == (TRUTH == 1)) & known).sum(1) / known.sum(1)).numpy()


def test_they_go_where_results_go(tmp_path):
    """Into a folder, into others; of several seeds the mean; not to a part of the rows, of which they are not."""
    one, two = (evaluated(s, seed=k, labels={"training": "ce"}) for k, s in enumerate((SCORES, -SCORES)))
    kept = evaluated(SCORES, labels={"training": "ce"}, out_dir=tmp_path)
    for same in (kept, Results.load(one.save(tmp_path / "saved")), Results.concat([one]), one.where(training="ce")):
        assert same.rates().equals(one.rates())
    both = Results.concat([one, two])
    expected = (means(one) + means(two)) / 2
    assert means(both).to_dict() == pytest.approx(expected.to_dict())
    assert means(Results.concat([one, two], {"a": one.info, "b": two.info})).to_dict() == means(both).to_dict()
    assert one.where(label=0).rates().empty


def test_other_evaluations_have_them_too():
    options = {"progress": False, "batch_size": 4}
    for results in (
        evaluate_reliance(model_of(SCORES), several(), backgrounds=["only_fg"], **options),
        evaluate_robustness(
            model_of(SCORES), several(), attacks=[], corruptions=["contrast"], severities=[1], **options
        ),
    ):
        assert means(results).to_dict() == means(evaluated(SCORES)).to_dict()


def test_of_the_classes_that_a_map_names():
    with pytest.warns(UserWarning, match=r"samples are left out: class_map does not name \['a', 'b'\]"):
        results = evaluated(SCORES, class_map={"c": 0, "d": 3})
    columns = [0, 3]
    assert means(results).to_dict() == pytest.approx(by_hand(SCORES[:, columns], TRUTH[:, [2, 3]]))


@pytest.mark.parametrize("options", [{"output": "softmax"}, {"output": "raw"}])
def test_what_has_no_rates(options):
    assert evaluated(SCORES, **options).rates().empty
    other = evaluated(SCORES.repeat(1, 2), target="label", output="raw")
    assert other.rates().empty
