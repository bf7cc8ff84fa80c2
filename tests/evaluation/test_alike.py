"""Remarks: methods that are one map on a network, found by their scores, and those that reach a part of it only."""

import pytest
import torch
from torch import nn

from sibx import Results, build_dataset, evaluate, write_report
from sibx.datasets import Part
from sibx.report.citations import BIBLIOGRAPHY, VENUES, read_entries
from sibx.report.content import gather
from sibx.report.panels import curve_panels
from tests.helpers.reports import make_results, score


def of_kin(training, method, metric, image):
    """In ce the twin is sib up to rounding; in sib it differs on one image."""
    value = score(training, "sib" if method == "twin" else method, metric, image)
    if method == "twin":
        value = value * (1 + 1e-9) + (training == "sib" and image == 2 and metric == "deletion") * 0.01
    return value


@pytest.fixture(scope="module")
def results():
    return make_results(methods=("sib", "gradcam", "twin"), score=of_kin)


def test_the_same_scores_are_said_where_they_are(results):
    (line,) = results.remarks().to_dict("records")
    assert (line["training"], line["method"], line["same_as"]) == ("ce", "twin", "sib")
    assert line["remark"] == "has the same scores as sib on every image: foreground_focus, deletion"


def test_hits_and_misses_say_nothing():
    alike = make_results(metrics=("pointing_game",), score=lambda t, method, m, image: float(image % 2))
    assert alike.remarks().empty


def test_every_form_says_it_beside_the_tables(results, tmp_path):
    one = results.where(training="ce")
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    text, latex, sources = ((tmp_path / n).read_text("utf-8") for n in ("report.md", "tables.tex", "references.bib"))
    assert "<li><b>twin †</b> has the same scores as VJP-IB (R M) on every image</li>" in page
    assert "- twin † has the same scores as VJP-IB (R M) on every image" in text
    assert r"twin \textdagger{} &" in latex
    for key in ("shu2025", "selvaraju2017", "petsiuk2018"):
        assert f"{{{key},\n" in sources
    assert "adebayo" not in sources  # of no method here
    everything = list(read_entries(BIBLIOGRAPHY.read_text("utf-8")))
    assert len({key for _, key, _ in everything}) == len(everything)
    assert all(kind in VENUES and said.keys() >= {"author", "year", "title", "venue"} for kind, _, said in everything)
    assert "  booktitle = {" in sources
    assert "  venue" not in sources
    assert "  journal = {arXiv preprint arXiv:2511.09239},\n" in sources
    assert "<figcaption>All methods</figcaption>" in page  # of one training the curves lie over each other
    both = gather(results)
    assert {p.title for groups in curve_panels(both, 10**9).values() for g in groups for p in g.panels} == {
        "VJP-IB (R M)",
        "Grad-CAM",
        "twin",
    }
    assert both.remarks == [("twin", "has the same scores as VJP-IB (R M) on every image (test, ce)")]


def test_networks_where_it_is_so(tmp_path):
    """Without activations DeepLIFT is Input x Gradient; Guided Backprop beside a SiLU reaches a part of the network."""
    torch.manual_seed(0)
    data = Part(build_dataset("synthetic", split="test-id", image_size=32), range(4))
    linear = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 8))
    options = {"metrics": ["foreground_focus"], "progress": False, "out_dir": tmp_path}
    found = evaluate(linear, data, methods=["input_x_gradient", "deeplift"], **options).remarks()
    assert found[["method", "same_as"]].to_numpy().tolist() == [["deeplift", "input_x_gradient"]]
    mixed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.ReLU(), *linear[1:])
    with pytest.warns(UserWarning, match="unguided"):
        results = evaluate(mixed, data, methods=["saliency", "guided_backprop"], **{**options, "out_dir": None})
    again = Results.concat([results], {"folder": results.info})  # as reports put several folders together
    (line,) = again.remarks().to_dict("records")
    assert (line["method"], line["same_as"]) == ("guided_backprop", "")
    assert line["remark"].startswith("reaches a part of the model only: Guided Backprop passes through")
