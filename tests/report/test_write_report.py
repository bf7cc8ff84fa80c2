"""A report as files: what the page, the Markdown and the LaTeX hold, what they leave out, and that names stay names."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from sibx import Results, write_report
from sibx.report import html
from sibx.report.latex import escape as escape_latex
from sibx.report.markdown import escape as escape_markdown
from tests.helpers.reports import HOSTILE, draw_gallery, make_results


class Page(HTMLParser):
    """The tags with their attributes, the ids, and the text of a page."""

    VOID = frozenset({"meta", "link", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.ids, self._open = [], "", set(), []
        self.feed(text)
        assert not self._open, "tags that are never closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            assert dict(attrs)["id"] not in self.ids, "an id twice"
            self.ids.add(dict(attrs)["id"])
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += data

    def sections(self):
        return [attrs["id"] for tag, attrs in self.tags if tag == "section"]


def render(tmp_path, results, **options):
    return Page(write_report(results, tmp_path, **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A page with all sections."""
    folder = tmp_path_factory.mktemp("report")
    explained = make_results(info={"versions": {"torch": "2.x"}, "image_size": 64})
    lines = [{"epoch": e, "cross_entropy": 1 / e} for e in (1, 2)]
    reliance = make_results(methods=("classifier",), metrics=("original", "mixed_rand", "bg_gap"), curves=False)
    results = Results.concat([explained, reliance], explained.info | {"training_log": {"sib": {"history": lines}}})
    return write_report(results, folder, gallery=draw_gallery())


class TestPage:
    def test_has_all_sections_each_with_a_link(self, full):
        page = Page(full.read_text(encoding="utf-8"))
        assert page.sections() == [name for name, _ in html.SECTIONS]
        links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
        assert links == ["#main", *(f"#{name}" for name, _ in html.SECTIONS)]

    def test_needs_nothing_from_outside(self, full):
        page = Page(full.read_text(encoding="utf-8"))
        sources = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
        assert sources
        assert all(s.startswith(("data:", "#")) for s in sources)
        (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src data:;")

    def test_every_picture_says_what_it_is(self, full):
        page = Page(full.read_text(encoding="utf-8"))
        pictures = [attrs for tag, attrs in page.tags if tag == "img"]
        assert len(pictures) > 20
        assert all(attrs["alt"] for attrs in pictures)

    def test_shows_the_scores(self, full):
        page = Page(full.read_text(encoding="utf-8"))
        mean = make_results().where(training="sib", method="gradcam", metric="foreground_focus").rows["value"].mean()
        assert f"{mean:.3f}" in page.text
        cells = [attrs["data-value"] for tag, attrs in page.tags if "data-value" in attrs]
        assert f"{mean:.9g}" in cells

    def test_results_alone_leave_out_what_they_have_no_data_for(self, tmp_path):
        page = render(tmp_path, make_results(curves=False))
        assert page.sections() == ["summary", "scores", "heat", "ranks", "cards"]

    def test_scores_of_a_classifier_alone(self, tmp_path):
        results = make_results(methods=("classifier",), metrics=("original", "fgsm"), curves=False, trainings=("ce",))
        page = render(tmp_path, results)
        assert page.sections() == ["classifier", "cards"]

    def test_a_training_without_a_name(self, tmp_path):
        page = render(tmp_path, make_results(trainings=("",)), gallery=draw_gallery(trainings=("",)))
        assert "Methods against model-free controls" in page.text

    def test_undefined_scores(self, tmp_path):
        def score(training, method, metric, image):
            return np.nan if image == 0 or metric == "deletion" else 0.5

        page = render(tmp_path, make_results(score=score))
        assert "1 undefined" in page.text
        assert re.search(r"undefined\s+undefined", page.text)  # of deletion no score at all

    def test_the_same_bytes_every_time(self, tmp_path):
        first, second = (
            write_report(make_results(images=2), tmp_path / str(i), gallery=draw_gallery(images=1)) for i in (0, 1)
        )
        for name in ("report.html", "report.md", "tables.tex"):
            assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The bytes of a page without pictures."""
    return len(write_report(make_results(curves=False), tmp_path_factory.mktemp("bare")).read_bytes())


class TestSize:
    """With a small limit in place of 15 MB."""

    def test_pictures_that_do_not_fit_are_left_out_and_counted(self, bare, tmp_path, monkeypatch):
        limit = bare + 500_000
        monkeypatch.setattr(html, "PAGE_BYTES", limit)
        monkeypatch.setattr(html, "RESERVE", 10_000)
        path = write_report(make_results(curves=False), tmp_path, gallery=draw_gallery(images=12))
        page = Page(path.read_text(encoding="utf-8"))
        cards = sum(attrs.get("class") == "card" for _, attrs in page.tags)
        assert 0 < cards < 12
        assert f"{12 - cards} more images would make the page too large." in page.text
        assert path.stat().st_size <= limit

    def test_curves_that_do_not_fit_are_left_out_and_counted(self, bare, tmp_path, monkeypatch):
        monkeypatch.setattr(html, "PAGE_BYTES", bare)
        page = render(tmp_path, make_results())
        panels = sum(tag == "figure" for tag, _ in page.tags) - 2  # the ranks of two trainings
        assert panels < 3
        assert f"{3 - panels} more are in curves.csv.gz" in page.text


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report in which every name is hostile."""
    names = {"trainings": ("ce", HOSTILE), "methods": ("sib", HOSTILE), "metrics": ("iou", HOSTILE)}
    images = HOSTILE.replace("{", "{{").replace("}", "}}") + "{:d}"
    results = make_results(**names, splits=("test", HOSTILE), name=images, model=HOSTILE, dataset=HOSTILE)
    results.info.update({HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}, "weights": HOSTILE})
    (item,) = draw_gallery(images=1, trainings=("ce", HOSTILE), methods=("sib", HOSTILE))
    item = replace(item, dataset=HOSTILE, model=HOSTILE, id=images.format(0), class_name=HOSTILE)
    histories = {HOSTILE: [{"epoch": 1, HOSTILE: 1}]}
    return write_report(results, tmp_path_factory.mktemp("hostile"), gallery=[item], title=HOSTILE, histories=histories)


class TestNames:
    """Whatever characters names have, they are shown and mean nothing."""

    def test_page(self, written):
        page = Page(written.read_text(encoding="utf-8"))
        assert sum(tag == "script" for tag, _ in page.tags) == 1
        assert not any("onerror" in attrs for _, attrs in page.tags)
        assert page.text.count("alert('x')") > 20
        assert page.sections() == [name for name, _ in html.SECTIONS if name != "classifier"]

    def test_markdown(self, written):
        text = (written.parent / "report.md").read_text(encoding="utf-8")
        assert not re.search(r"(?<!\\)<", text)
        assert "](b)" not in text
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert tables
        assert all(line.endswith("|") for line in tables)

    def test_latex(self, written):
        text = (written.parent / "tables.tex").read_text(encoding="utf-8")
        for line in text.splitlines()[1:]:
            bare = re.sub(r"\\[\\&%$#_{}]", "", line)  # without escaped characters
            assert bare.count("{") == bare.count("}")
            assert not re.search(r"[%$#~^_<>|\"]", re.sub(r"\\(begin|end|label)\{[^}]*\}", "", bare))


class TestExtent:
    """Every table says of which trainings it speaks."""

    @pytest.mark.parametrize(
        ("seeds", "claims", "means"),
        [
            ((0,), "for this training", "for this training"),
            ((3, 4), "over 2 seeds", "over 2 seeds, for these trainings"),
        ],
    )
    def test_captions(self, seeds, claims, means, tmp_path):
        reliance = make_results(methods=("classifier",), metrics=("original", "bg_gap"), seeds=seeds, curves=False)
        page = render(tmp_path, Results.concat([make_results(seeds=seeds), reliance]))
        text = " ".join(page.text.split())
        assert text.count(f"{claims}, means over methods with 95 % intervals") == 1
        for caption in (
            "Accuracy on the images scored",
            "Beside the accuracy, test",
            "Scores of explanations, test",
            "Means by method, metric and training, test",
            "Scores of the classifier, test, accuracy",
            "with 95 % bootstrap bands over images at every point",
        ):
            assert f"{caption}, {means}" in text
        note = f"Means with 95 % bootstrap intervals over images, {means}"
        assert text.count(note) == 2
        assert f"## Accuracy\n\n{note}" in (tmp_path / "report.md").read_text(encoding="utf-8")
        tables = (tmp_path / "tables.tex").read_text(encoding="utf-8")
        assert tables.count(note.replace("%", r"\%")) == tables.count(r"\caption") == 5


class TestMarkdown:
    def test_says_what_is_shown(self, full):
        text = (full.parent / "report.md").read_text(encoding="utf-8")
        assert "# Shapes on textures · TinyCNN\n\n8 images, 2 methods, 1 control, 2 metrics, 2 trainings\n" in text
        about = "sib: S-IB with object masks from the data; ce: cross-entropy alone"
        verdict = "- **shown**: Foreground focus improves for every method, for this training\n"
        assert f"### sib against ce\n\n{about}\n\n{verdict}" in text
        assert "| package | version |" in text

    def test_best_of_every_line_is_bold(self, full):
        lines = (full.parent / "report.md").read_text(encoding="utf-8").splitlines()
        start = lines.index("### Deletion AUC, test (lower is better)")
        head, _, first, _, control = lines[start + 2 : start + 7]
        assert re.split(r"\s*\|\s*", head)[1:-1] == ["Method", "ce", "sib"]
        cells = re.split(r"\s*\|\s*", first)[2:-1]
        assert [cell.startswith("**") for cell in cells] == [False, True]
        assert "**" not in control  # the same before and after

    def test_escape(self):
        assert escape_markdown("a_b _c_ [d](e) <f> |") == r"a_b \_c\_ [d]\(e) \<f\> \|"
        assert escape_markdown("two\nlines") == "two lines"


class TestLatex:
    def test_every_line_has_all_columns(self, full):
        text = (full.parent / "tables.tex").read_text(encoding="utf-8")
        tables = re.findall(r"\\begin\{tabular\}\{(l?r+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
        assert len(tables) == text.count(r"\begin{table}") == text.count(r"\end{table}") == 5
        for columns, body in tables:
            lines = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert len(lines) >= 3
            assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}

    def test_labels_are_numbered(self, full):
        text = (full.parent / "tables.tex").read_text(encoding="utf-8")
        assert re.findall(r"\\label\{tab:sibx-(\d)\}", text) == list("12345")

    def test_one_training_makes_one_table_of_metrics(self, tmp_path):
        write_report(make_results(trainings=("ce",)), tmp_path)
        text = (tmp_path / "tables.tex").read_text(encoding="utf-8")
        assert r"Method & Foreground focus (higher is better) & Deletion AUC (lower is better) \\" in text
        assert r"\caption{Explanations, test." in text

    def test_escape(self):
        assert escape_latex("50% & a_b{c}\\") == r"50\% \& a\_b\{c\}\textbackslash{}"
        assert escape_latex("[x] −1") == r"{[}x{]} \ensuremath{-}1"


class TestErrors:
    def test_a_score_twice(self, tmp_path):
        results = Results.concat([make_results(), make_results()])
        with pytest.raises(ValueError, match=r"`results` must have every score once; .* but got .*'test'"):
            write_report(results, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_nothing(self, tmp_path):
        results = make_results()
        with pytest.raises(ValueError, match="`results` must have at least one row"):
            write_report(Results(results.rows.iloc[:0], pd.DataFrame()), tmp_path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"comparisons": [("sib", "se")]}, "`comparisons` must be one of ce, sib, but got 'se'"),
            ({"margin": -0.1}, r"`margin` must lie in \[0, 1\]"),
        ],
    )
    def test_arguments(self, options, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            write_report(make_results(), tmp_path, **options)
