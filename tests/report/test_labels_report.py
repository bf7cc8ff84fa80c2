"""What is said of a classifier of several labels per image: no accuracy, but what of the labels it finds."""

import dataclasses

import pytest
import torch

from sibx import Results, evaluate, evaluate_reliance, write_report
from sibx.cli.rate_lines import rate_lines
from sibx.evaluation import drawn
from sibx.models import TinyCNN
from sibx.report.claims import make_claims
from sibx.studies import Study
from sibx.studies.findings import summarize
from sibx.studies.glance import scores_of_labels
from sibx.studies.job import Group, Job
from sibx.studies.scores import Scorer
from tests.helpers.several import several


def yes(images):
    return torch.ones(len(images), 4)


@pytest.fixture(scope="module")
def results():
    options = {"labels": {"model": "m", "training": "ce"}, "progress": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "RESAMPLES", 20)
        explained = evaluate(yes, several(), methods=["control_center"], metrics=["iou"], **options)
        relied = evaluate_reliance(yes, several(), backgrounds=["only_fg"], **options)
    return Results.concat([explained, relied])


def test_report(results, tmp_path):
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "6 images, 9 rows" not in text  # one photograph has no label, and so no row
    assert "5 images, 9 rows, 1 control" in text
    assert "### Label by label, test" in text
    assert "- classifier" not in text
    assert "recall of labels that are there 1.000 [1.000, 1.000]" in text
    for shown in (text, page, (tmp_path / "tables.tex").read_text(encoding="utf-8")):
        assert "Label by label" in shown
        assert "Precision" in shown
        said = shown.replace("Balanced accuracy", "").split("<body>")[-1]
        assert "ccuracy" not in said.partition('id="config"')[0]


def test_command_line(results):
    first, second = rate_lines(results, "abcd").splitlines()
    assert first.startswith("mAP 0.")
    assert "precision 0." in first
    assert "recall 1.000 [1.000, 1.000], labels right, there or not, 0." in first
    assert second == "recall: a 1.000, b 1.000, c 1.000, d 1.000"
    part = dataclasses.replace(results, info={})  # as files of before
    assert rate_lines(part, "abcd") == "recall of labels that are there 1.000 [1.000, 1.000]"


def test_claims_name_the_recall(results):
    again = results.rows.assign(training="sib")
    both = Results.concat([results, Results(again, results.curves)])
    assert {"recall"} == {c.metric for c in make_claims(both)} - {"iou"}


def test_study(results, tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "RESAMPLES", 20)
    study = Study(dataset="coco", model="tiny_cnn", trainings=["ce"], output="sigmoid", methods=["saliency"])
    job = Job(Group("several", "m", 0), "training", "ce")
    scorer = Scorer(study, job, tmp_path, progress=False)
    scored = scorer.score(TinyCNN(4, width=4).eval(), {"test": several()}, {})
    rates = scored.rates().set_index("metric")
    assert rates["n"].to_list() == [6] * 9  # of all images, explained or not
    assert rates.loc["recall", "mean"] == pytest.approx(scored.accuracy()["mean"].item())
    text = summarize(scored, study, scores_of_labels({job: scored}))
    assert "Recall of labels that are there" in text
    assert "Accuracy" not in text
