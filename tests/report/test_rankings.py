"""Mean ranks in a report: whose they are, what they agree with, and how the three forms show them."""

import re

import pytest

from sibx import Results, write_report
from sibx.report.content import gather
from tests.helpers.reports import make_results, score


def by_method(training, method, metric, image):
    """Saliency is the best by focus on every image; by deletion, where lower is better, it is the worst."""
    better = {"saliency": 0.3, "sib": 0.2, "gradcam": 0.1}.get(method, 0)
    return score("ce", "sib", "", image) + better


@pytest.fixture(scope="module")
def results():
    made = make_results(methods=("sib", "gradcam", "saliency"), images=12, score=by_method, seeds=(0, 1))
    own = make_results(methods=("sib", "gradcam"), metrics=("own",), trainings=("ce",), seeds=(0, 1))
    return Results.concat([made, own])


@pytest.fixture(scope="module")
def tables(results):
    return gather(results).ranks


def test_every_trained_model_and_metric_is_ranked(tables):
    first, second = tables
    assert [(t.scope, t.training, list(t.rankings)) for t in (first, second)] == [
        ("test", training, ["foreground_focus", "deletion"]) for training in ("ce", "sib")
    ]
    assert first.headline == "foreground_focus"
    assert first.methods == ["saliency", "sib", "gradcam"]
    assert [first.cells(method) for method in first.methods] == [
        ["1.00 a", "3.00 c"],
        ["2.00 b", "2.00 b"],
        ["3.00 c", "1.00 a"],
    ]


def test_they_are_those_of_results(results, tables):
    table, _ = tables
    alone = results.where(training="ce", seed=0).ranking("deletion")
    assert table.rankings["deletion"].mean_ranks == alone.mean_ranks  # both seeds have the same scores
    assert table.rankings["deletion"].critical_difference == alone.critical_difference
    assert table.rankings["deletion"].n == 12  # images, not images times seeds


def test_own_directions_and_nothing_to_rank():
    results = make_results(methods=("sib", "gradcam"), metrics=("own",), trainings=("",))
    assert gather(results).ranks == []
    (table,) = gather(results, directions={"own": False}).ranks
    assert (table.headline, table.training) == ("own", "")
    undefined = make_results(score=lambda *_: float("nan"), trainings=("ce",))
    assert gather(undefined).ranks == []


def test_scopes_are_apart():
    tables = gather(make_results(splits=("a", "b"), trainings=("ce",))).ranks
    assert [t.scope for t in tables] == ["a", "b"]


def test_every_form_shows_them_their_sources_and_of_how_many(results, tmp_path):
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for form in (page, text):
        assert "Nemenyi" in form
        assert "1.00 a" in form
        assert "Petsiuk 2018" in form  # deletion's source
        assert "Simonyan 2013" in form  # saliency's
    section = page[page.index('<section id="ranks"') : page.index('<section id="curves"')]
    assert section.count("<figure>") == section.count("<table>") == 2
    assert "mean ranks by Foreground focus: Saliency 1.00" in section
    assert "| Saliency " in text[text.index("## Mean ranks") :]


def test_a_badge_says_of_how_many(tmp_path):
    def one(training, method, metric, image):
        return (0.1 if (training, method) == ("sib", "gradcam") else 0) + image % 3 / 10

    page = write_report(make_results(score=one, metrics=("foreground_focus",)), tmp_path).read_text(encoding="utf-8")
    badges = re.findall(r'<span class="badge (\S+)">([^<]*)', page)
    assert ("partly", "1 of 2 shown") in badges
    assert "- **1 of 2 shown**: " in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "partly" not in (tmp_path / "report.md").read_text(encoding="utf-8")
