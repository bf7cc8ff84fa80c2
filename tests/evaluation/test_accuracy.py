"""Which images are right, the accuracies that come of it, and that a NaN among the logits is never right."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from sibx import Results, evaluate, evaluate_robustness
from sibx._outputs import hits
from sibx.cli.evaluate import _summary
from sibx.datasets import InMemoryDataset
from sibx.evaluation import bootstrap_mean, worst_group
from sibx.evaluation.classified import is_right
from sibx.report.cards import model_cards
from sibx.report.claims import make_claims
from sibx.report.content import gather
from sibx.report.gallery_page import lay_out
from tests.helpers.reports import draw_gallery, make_results
from tests.helpers.tables import assert_read_back


def broken(images):
    """Eight logits; NaN for every other image, where ``argmax`` says class 0."""
    logits = torch.arange(8.0).repeat(len(images), 1)
    logits[::2, 3] = torch.nan
    return logits


@pytest.fixture
def labels_of_zero(shapes):
    """Images of class 0, which a NaN would get right if nobody looked, and of class 7, which the others are."""
    return InMemoryDataset(shapes, [s._replace(label=7 * (i % 2)) for i, s in enumerate(shapes.samples[:8])])


@pytest.fixture
def unsure():
    """Everything is predicted right, a quarter of the images (class 0) without a confidence."""
    results = make_results(curves=False)
    results.rows.loc[results.rows["label"] == 0, "confidence"] = np.nan
    return results


def test_rows_say_what_logits_say(labels_of_zero):
    """Of every image the row is right where ``hits`` of its logits is."""
    results = evaluate(broken, labels_of_zero, methods=["control_center"], metrics=["iou"], progress=False)
    images = torch.stack([s.image for s in labels_of_zero.samples])
    expected = hits(broken(images), labels_of_zero.labels)
    assert results.rows["predicted"].tolist() == [0, 7] * 4
    assert is_right(results.rows).tolist() == expected.bool().tolist() == [False, True] * 4
    assert results.hits().rows["value"].tolist() == expected.tolist()
    assert results.accuracy()["mean"].item() == expected.mean().item() == 0.5


def test_a_nan_is_wrong_after_saving_too(labels_of_zero, tmp_path):
    results = evaluate(broken, labels_of_zero, methods=["control_center"], metrics=["iou"], progress=False)
    loaded = Results.load(results.save(tmp_path))
    assert_read_back(loaded.rows, results.rows)
    assert loaded.accuracy()["mean"].item() == 0.5


def test_a_nan_is_wrong_under_every_condition(labels_of_zero):
    results = evaluate_robustness(broken, labels_of_zero, attacks=[], severities=[1], progress=False)
    assert set(results.rows.groupby("metric", observed=True)["value"].mean()) == {0.5}


def test_a_nan_is_wrong_in_the_worst_group(unsure):
    grouped = Results(unsure.rows.assign(group=unsure.rows["label"]), unsure.curves)
    found = worst_group(grouped.hits(), ["training"])
    assert found[["training", "group", "mean", "n"]].to_numpy().tolist() == [["ce", 0, 0, 2], ["sib", 0, 0, 2]]


def test_a_nan_is_wrong_in_claims(unsure):
    fixed = unsure.rows["training"] == "ce"
    unsure.rows.loc[fixed, "confidence"] = 0.9
    (claim,) = (c for c in make_claims(unsure) if (c.against, c.metric) == ("ce", "accuracy"))
    assert claim.overall.interval.mean == -0.25


def test_a_nan_is_wrong_on_the_page(unsure):
    content = gather(unsure)
    assert {found["test"].mean for found in content.accuracies.values()} == {0.75}
    (card,) = model_cards(unsure)
    assert dict(card.facts)["training ce"][-1].startswith("accuracy 0.750 [")
    first, second = lay_out(content, draw_gallery(images=2), 10**9).cards
    assert first.rows[0].cells[0].note == "wrong, p = \N{EN DASH}"
    assert second.rows[0].cells[0].note == "right, p = 0.90"


def test_a_nan_is_wrong_in_the_terminal(unsure):
    text = _summary(unsure.where(training="ce"), ["deletion"], "abcdefgh")
    assert text.startswith("accuracy 0.750 [")


def test_an_image_counts_once():
    """Whatever it has: three methods, two metrics; the mean of its two seeds."""
    first = make_results(hit=lambda training, image: image < 4, curves=False)
    second = make_results(hit=lambda training, image: training == "sib", seeds=(1,), curves=False)
    both = Results.concat([first, second])
    table = both.accuracy().set_index("training")
    for training, expected in {"ce": [0.5] * 4 + [0] * 4, "sib": [1] * 4 + [0.5] * 4}.items():
        found = bootstrap_mean(np.array(expected, dtype=float))
        assert tuple(table.loc[training, list(found._fields)]) == found
    assert len(both.hits().rows) == 2 * 2 * 8
    by_class = both.accuracy(["training", "label"])
    assert len(by_class) == 2 * 4
    assert set(by_class["n"]) == {2}
    with pytest.raises(ValueError, match=r"`by` must be one of dataset,.* but got 'trainig'"):
        both.accuracy(["trainig"])


def test_hits_are_results():
    """So every view of results is one of accuracy."""
    results = make_results(images=40, seeds=(0, 1, 2), hit=lambda training, image: training == "sib" or image % 4 > 0)
    hits = results.hits()
    assert set(hits.rows["method"]) == {"classifier"}
    assert set(hits.rows["metric"]) == {"accuracy"}
    assert hits.curves.empty
    assert hits.difference("sib", "ce")["mean"].item() == 0.25
    line = hits.over_seeds("sib", "ce").iloc[0]
    assert (line["mean"], line["low"], line["high"], line["n"]) == (0.25, 0.25, 0.25, 3)
    pd.testing.assert_frame_equal(hits.hits().rows, hits.rows)


def test_one_seed_says_nothing_of_others():
    line = make_results().hits().over_seeds("sib", "ce").iloc[0]
    assert (line["mean"], line["low"], line["high"]) == (0, -math.inf, math.inf)
