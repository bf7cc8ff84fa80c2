"""Methods against each other: pairs, their correction, equal scores, and who is first and last."""

from itertools import combinations

import numpy as np
import pytest

from sibx import Results
from sibx.evaluation import rank_methods
from sibx.evaluation.ties import with_ties
from tests.helpers.reports import make_results
from tests.references import statistics as reference

GAINS = {"sib": 0.3, "gradcam": 0.31, "twin": 0.3, "control_center": 0.0}


def by_method(training, method, metric, image):
    """The same noise for all, but for Grad-CAM's own; the twin differs from sib in the last bits."""
    random = np.random.default_rng([image, len(training), method == "gradcam"])
    value = 0.4 + GAINS[method] + random.normal(0, 0.05)
    if method == "sib" and image == 3:
        return np.nan
    return value * (1 + 1e-8) if method == "twin" else value


@pytest.fixture(scope="module")
def results():
    return make_results(methods=tuple(GAINS), images=12, score=by_method, curves=False)


def test_every_pair_is_its_definition(results):
    table = results.between_methods("foreground_focus")
    assert len(table) == 2 * 6
    for training, lines in table.groupby("training", observed=True):
        assert list(zip(lines["method"], lines["reference"], strict=True)) == list(combinations(GAINS, 2))
        for line in lines.to_dict("records"):
            pair = (line["method"], line["reference"])
            a, b = (np.array([by_method(training, m, "", i) for i in range(12)]) for m in pair)
            differences = np.where(np.isclose(a, b, atol=0), a * 0, a - b)
            assert line["mean"] == pytest.approx(np.nanmean(differences), abs=1e-7)  # equal ones: the smallest
            assert line["p_value"] == pytest.approx(reference.wilcoxon_exact(differences)[1])
            assert line["n"] == 12 - ("sib" in pair)
            assert line["low"] <= line["mean"] <= line["high"]
        assert lines["p_holm"].tolist() == pytest.approx(reference.holm(lines["p_value"].tolist()))
        twins = lines.query("method == 'sib' and reference == 'twin'").iloc[0]
        assert (twins["mean"], twins["p_value"]) == (0, 1)


def test_against_one_and_against_the_best(results):
    everything = results.between_methods("foreground_focus")
    one = results.between_methods("foreground_focus", "control_center")
    assert one["method"].tolist() == ["sib", "gradcam", "twin"] * 2
    assert (one["low"] > 0).all()
    assert (one["p_holm"] <= 3 * one["p_value"] + 1e-12).all()
    best = results.between_methods("foreground_focus", "best")
    assert best.groupby("training", observed=True).size().tolist() == [3, 3]
    for _, lines in best.groupby("training", observed=True):
        (name,) = lines["reference"].unique()
        assert name == "gradcam"
        assert (lines["mean"] <= 0).all()
        of_all = everything[everything["training"] == lines["training"].iloc[0]]
        pairs = [sorted(p) for p in of_all[["method", "reference"]].to_numpy().tolist()]
        for line in lines.to_dict("records"):  # corrected for all pairs, since the scores chose the best
            same = of_all.iloc[pairs.index(sorted((line["method"], name)))]
            assert line["p_holm"] == pytest.approx(same["p_holm"])
            assert line["mean"] == pytest.approx(-same["mean"] if same["method"] == name else same["mean"])
    assert "control_center" in results.between_methods("deletion", "best")["reference"].tolist()


def test_seeds_are_what_they_are_in_a_difference():
    results = make_results(methods=("sib", "gradcam"), seeds=(0, 1, 2), trainings=("ce",), curves=False)
    (line,) = results.between_methods("deletion").to_dict("records")
    assert line["seeds"] == 3
    swapped = results.rows.assign(training=results.rows["method"], method="one")
    (expected,) = (
        Results(swapped, results.curves).difference("sib", "gradcam").query("metric == 'deletion'").to_dict("records")
    )
    assert [line[n] for n in ("mean", "low", "high", "p_value")] == [
        expected[n] for n in ("mean", "low", "high", "p_value")
    ]


def test_errors(results):
    with pytest.raises(ValueError, match="`metric` must be one of foreground_focus, deletion, but got 'iou'"):
        results.between_methods("iou")
    with pytest.raises(ValueError, match="`reference` must be one of best, sib, gradcam, twin, control_center, but"):
        results.between_methods("deletion", "rise")
    own = make_results(methods=("sib", "gradcam"), metrics=("own",), curves=False)
    with pytest.raises(ValueError, match="`higher_is_better` must be given for own"):
        own.between_methods("own", "best")
    assert len(own.between_methods("own", "best", higher_is_better=True)) == 2
    with pytest.raises(ValueError, match=r"`rows` must have at least two methods to compare, but got \['sib'\]"):
        make_results(methods=("sib",), curves=False).between_methods("deletion")


def test_equal_up_to_rounding():
    """A grid of five digits would tear the first two apart; what is far from 0 in no score stays apart."""
    edge = 0.123455
    scores = np.array([[edge * (1 + 1e-8), edge * (1 - 1e-8), 0.2], [np.nan, np.inf, 5e-9], [1e-9, 1.0, -1e-9]])
    found = with_ties(scores)
    assert found[0, 0] == found[0, 1] != found[0, 2]
    assert np.array_equal(found[1], scores[1], equal_nan=True)
    assert found[2, 0] == found[2, 2] != found[2, 1]
    assert with_ties(np.array([[1e-9, 2e-9]])).tolist() == [[1e-9, 2e-9]]
    random = np.random.default_rng(0).random((50, 6))
    assert np.array_equal(with_ties(random), random)


def test_a_mean_rank_in_the_middle_may_be_first_and_last():
    scores = np.array([[3.0, 2, 1, 1]] * 5 + [[1.0, 2, 3, 3]] * 5)
    found = rank_methods(scores, ["either", "middle", "c", "d"], higher_is_better=True)
    assert found.first == {"either": 0.5, "middle": 0, "c": 0.25, "d": 0.25}
    assert found.last == {"either": 0.5, "middle": 0, "c": 0.25, "d": 0.25}
    assert found.divided == ["either"]
    table = found.table().set_index("method")
    assert table.loc["either", ["first", "last"]].tolist() == [0.5, 0.5]
    two = rank_methods(scores[:, :2], ["a", "b"], higher_is_better=True)
    assert two.divided == []  # of two methods each is first or last on every image
    equal = rank_methods(np.ones((4, 6)), list("abcdef"), higher_is_better=True)
    assert {*equal.first.values(), *equal.last.values()} == {0}
