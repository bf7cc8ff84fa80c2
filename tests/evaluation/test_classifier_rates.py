"""Rates beside the accuracy, from rows of Results."""

import numpy as np
import pandas as pd
import pytest
import torch

from sibx import Results, evaluate
from sibx.datasets import InMemoryDataset, build_dataset
from sibx.evaluation.columns import CURVE_COLUMNS, NO_CLASS, TRAINED
from sibx.models import classification_rates
from tests.helpers.reports import make_results


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def results_of(logits, labels, seed=0):
    """Rows as ``evaluate`` writes them, of one metric."""
    confidence, predicted = logits.softmax(1).max(1)
    rows = pd.DataFrame(
        {
            "dataset": "d",
            "split": "test",
            "image_id": [f"image-{i}" for i in range(len(labels))],
            "photo": [f"image-{i}" for i in range(len(labels))],
            "label": labels.numpy(),
            "predicted": predicted.numpy(),
            "confidence": confidence.numpy(),
            "group": -1,
            "area": 0.2,
            "model": "m",
            "training": "ce",
            "seed": seed,
            "method": "vjp",
            "target": predicted.numpy(),
            "metric": "foreground_focus",
            "value": 0.5,
        }
    )
    return Results(rows, pd.DataFrame(columns=list(CURVE_COLUMNS)))


def means(results):
    table = results.rates().set_index("metric")
    return table["mean"]


@pytest.mark.parametrize("classes", [2, 5])
def test_equal_those_of_the_scores(classes):
    labels = torch.tensor(([0] * 30 + [1] * 8 + [2, 3, 4] * 3) if classes == 5 else [0] * 30 + [1] * 8)
    logits = draw(len(labels), classes) + torch.eye(classes)[labels]
    expected, found = classification_rates(logits, labels), means(results_of(logits, labels))
    for name in ("accuracy", "balanced_accuracy", "f1", "majority_rate"):
        assert found[name] == pytest.approx(expected[name]), name
    assert found["lowest_recall"] == pytest.approx(min(expected["recall"]))
    if classes == 2:
        assert found["auroc"] == pytest.approx(expected["auroc"])
        assert found["mean_average_precision"] == pytest.approx(expected["average_precision"])
    else:
        assert np.isnan(found["auroc"])


def test_always_the_commonest_class():
    """Accuracy hides it; the rates beside it do not."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    found = means(results_of(torch.tensor([[1.0, 0.0]]).expand(100, 2), labels))
    assert found["accuracy"] == found["majority_rate"] == 0.9
    assert (found["balanced_accuracy"], found["lowest_recall"], found["auroc"]) == (0.5, 0.0, 0.5)


def test_intervals_hold_what_other_images_give():
    """Of 20 drawn sets of images, about 19 intervals hold the true rate."""
    held = dict.fromkeys(("balanced_accuracy", "auroc"), 0)
    truth = {"balanced_accuracy": 0.6915, "auroc": 0.7602}  # of scores that differ by one standard deviation
    for trial in range(20):
        labels = torch.tensor([0] * 60 + [1] * 20)
        score = draw(80, seed=trial) + labels.double() - 0.5
        table = results_of(torch.stack([-score, score], 1) / 2, labels).rates().set_index("metric")
        for name, value in truth.items():
            held[name] += table.loc[name, "low"] <= value <= table.loc[name, "high"]
    assert min(held.values()) >= 16


def test_every_interval_holds_its_rate():
    """Classes that are equally common, or found, are chosen once, not in every draw of images."""
    labels = torch.tensor([0, 1, 2, 3] * 6)
    table = results_of(draw(24, 4) + torch.eye(4)[labels], labels).rates()
    table = table[table["n"] > 0]
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()


def test_of_several_seeds_the_mean():
    labels = torch.tensor([0, 1] * 20)
    logits = [draw(40, 2, seed=s) + torch.eye(2)[labels] for s in (1, 2)]
    parts = [results_of(each, labels, seed) for seed, each in enumerate(logits)]
    together = means(Results.concat(parts))
    assert together.to_numpy() == pytest.approx(np.mean([means(part) for part in parts], axis=0))


def test_an_image_with_nan_scores_is_wrong():
    labels = torch.tensor([0, 0, 1, 1])
    results = results_of(torch.tensor([[2.0, 0], [2, 0], [0, 2], [0, 2]]), labels)
    results.rows.loc[0, "confidence"] = np.nan
    found = means(results)
    assert (found["accuracy"], found["lowest_recall"], found["balanced_accuracy"]) == (0.75, 0.5, 0.75)
    assert np.isnan(found["auroc"])


def test_what_has_no_rates():
    labels = torch.tensor([0, 1, 2] * 2)
    without = results_of(draw(6, 3), labels)
    without.rows["predicted"] = NO_CLASS
    assert without.rates().empty
    several = results_of(draw(6, 3), labels)
    several.rows["photo"] = [f"photo-{i // 3}" for i in range(6)]
    assert several.rates().empty


def test_photographs_with_several_rows_are_the_unit():
    """Every row twice says no more than once."""
    labels = torch.tensor([0] * 20 + [1] * 20)
    once = results_of(draw(40, 2) + torch.eye(2)[labels], labels)
    again = once.rows.assign(image_id=once.rows["image_id"] + "-again")
    twice = Results(pd.concat([once.rows, again], ignore_index=True), once.curves)
    one, two = once.rates(), twice.rates()
    assert one[["mean", "low", "high"]].to_numpy() == pytest.approx(two[["mean", "low", "high"]].to_numpy())


def test_a_line_per_model_and_rate():
    table = make_results(trainings=("ce", "sib"), splits=("a", "b")).rates()
    assert len(table) == 4 * table["metric"].nunique()
    assert set(table["method"]) == {"classifier"}
    assert not table.duplicated([*TRAINED, "metric"]).any()


def test_of_an_evaluation():
    source = build_dataset("synthetic", split="test-id", image_size=32)
    data = InMemoryDataset.load(source, range(8))
    results = evaluate(
        lambda x: -x.mean((2, 3))[:, :1].expand(len(x), 8).cumsum(1),
        data,
        methods={"flat": lambda x, _: torch.ones_like(x[:, :1])},
        metrics=["foreground_focus"],
        progress=False,
    )
    found = means(results)
    assert found["accuracy"] == results.accuracy()["mean"][0]
