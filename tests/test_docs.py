"""README and the pages of docs/: their code runs, their links lead somewhere, and tables are made from the tables.

Code blocks of a page share their names, in the order of the page. A comment in the line before a block says what is
special: ``<!-- not run: why -->``, or ``<!-- warns: pattern -->`` for code that has to give a warning.
"""

import contextlib
import csv
import doctest
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from docs.machinery.commands import help_of
from docs.machinery.gallery import gallery_page, run, scripts
from docs.machinery.pages import reference_pages
from docs.machinery.sources import SOURCE, Bibliography, read_sources
from docs.machinery.tables import undefined_case
from sibx import DATASETS, METHODS, METRICS, MODELS, TRAININGS, build_dataset, build_model, metrics
from sibx.attribution import MASKS
from sibx.cli import COMMANDS
from sibx.datasets import Part
from sibx.objectives import GUIDANCE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GENERATED = ("_build", "reference", "gallery", "bibliography.md")  # parts of docs/ that a build makes
FENCE = re.compile(r"^(?:<!-- ([\w ]+): (.+?) -->\n)?^```([\w{}-]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CSV_TABLE = re.compile(r"```\{csv-table\}[^\n]*\n(?::[\w-]+:[^\n]*\n)*?:file: (\S+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)
LABEL = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
NOT_RUN = {  # page: its blocks that need another library, a download, or things that are yours
    "docs/guides/explain.md": 1,
    "docs/guides/fine_tune.md": 2,
    "docs/guides/own_data.md": 1,
}


class Block(NamedTuple):
    """A block of code: what a comment before it says, its language, its text."""

    special: str
    said: str
    language: str
    text: str


def pages():
    committed = [p for p in DOCS.rglob("*.md") if not set(p.relative_to(DOCS).parts) & set(GENERATED)]
    return [ROOT / "README.md", *sorted(committed)]


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(text):
    return [Block(*found.groups("")) for found in FENCE.finditer(text)]


def code_of(page):
    return [b for b in blocks(page.read_text(encoding="utf-8")) if b.language in ("python", "pycon")]


WITH_CODE = [page for page in pages() if any(b.special != "not run" for b in code_of(page))]


def run_block(block, names):
    """Run one block with the names of its page."""
    if block.language == "python":
        warns = pytest.warns(UserWarning, match=block.said) if block.special == "warns" else contextlib.nullcontext()
        with warns:
            exec(block.text, names)
        return
    report = []
    test = doctest.DocTestParser().get_doctest(block.text, names, "page", None, 0)
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append, clear_globs=False).failed
    assert not failed, "".join(report)
    names.update(test.globs)  # a doctest works on a copy


@pytest.fixture(scope="module")
def readers_own():
    """What README takes for granted: a network and images."""
    torch.manual_seed(0)
    data = Part(build_dataset("synthetic", split="test-id", image_size=32), range(64))
    names = {"model": build_model("tiny_cnn", 8), "images": data[0].image[None]}
    return names | dict.fromkeys(("train_data", "val_data", "test_data"), data)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already")  # of Captum's own methods
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs(page, readers_own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(readers_own) if page.name == "README.md" else {}
    for block in code_of(page):
        if block.special != "not run":
            run_block(block, names)


def test_what_is_not_run_is_known():
    left_out = {name_of(page): sum(b.special == "not run" for b in code_of(page)) for page in pages()}
    assert {name: count for name, count in left_out.items() if count} == NOT_RUN


def test_blocks_that_are_wrong_are_seen():
    text = "<!-- warns: it -->\n```python\n1\n```\n\n```pycon\n>>> 1 + 1\n3\n```\n"
    silent, wrong = blocks(text)
    with pytest.raises(pytest.fail.Exception):
        run_block(silent, {})
    with pytest.raises(AssertionError, match="Got"):
        run_block(wrong, {})


@pytest.fixture(scope="module")
def generated():
    """Every page that a build writes: path below docs/ -> text."""
    return reference_pages() | {"gallery/index.md": gallery_page(DOCS / "gallery")}


def headings(text):
    """Anchors of a page's headings, as Sphinx and GitHub write them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


def dead_links(texts):
    """Links that lead nowhere, as (page, link); texts: path of a page -> its text."""
    labels = {label for text in texts.values() for label in LABEL.findall(text)}  # known on every page
    for page, text in texts.items():
        for target in LINK.findall(FENCE.sub("", text)):
            path, _, anchor = target.partition("#")
            place = (page.parent / path).resolve() if path else page
            known = headings(texts.get(place, "")) | labels
            leads = "://" in target or ((place in texts or place.exists()) and (not anchor or anchor in known))
            if not leads:
                yield page.name, target


def test_links_lead_somewhere(generated):
    committed = {page: page.read_text(encoding="utf-8") for page in pages()}
    assert list(dead_links(committed | {DOCS / name: text for name, text in generated.items()})) == []


def test_dead_links_are_seen():
    index = "# A b\n[a](#a-b) [b](#b) [c](nowhere.md) [d](conf.py) [e](https://x.org) [f](#f) [g](g.md#a-b)"
    texts = {DOCS / "index.md": index, DOCS / "g.md": "(f)=\n# Else"}
    assert list(dead_links(texts)) == [("index.md", "#b"), ("index.md", "nowhere.md"), ("index.md", "g.md#a-b")]


def test_tables_of_numbers_are_read_from_their_files():
    """A page shows a CSV file itself, so that the two cannot differ; no file is left that no page shows."""
    shown = [page.parent / found for page in pages() for found in CSV_TABLE.findall(page.read_text(encoding="utf-8"))]
    assert {file.resolve() for file in shown} == set(DOCS.rglob("tables/*.csv"))
    widths = {path.name: set(map(len, csv.reader(path.read_text(encoding="utf-8").splitlines()))) for path in shown}
    assert {name: found for name, found in widths.items() if len(found) != 1} == {}


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("methods", METHODS),
        ("metrics", METRICS),
        ("datasets", DATASETS),
        ("models", MODELS),
        ("trainings", TRAININGS),
        ("guidance", GUIDANCE),
        ("mask_rules", MASKS),
    ],
)
def test_every_line_of_a_table_is_on_its_page(generated, page, table):
    text = generated[f"reference/{page}.md"]
    assert [key for key in table if f"`{key}`" not in text] == []


def test_pages_take_what_the_tables_say(generated):
    text = generated["reference/metrics.md"].split("### `foreground_focus`")[1].split("###")[0]
    assert ":Formula: sum(a s) / sum(a)" in text
    assert ":Range: [0, 1], higher is better" in text
    assert ":Undefined: NaN for an image without object pixels" in text
    assert "[Wang 2020](#source-wang2020), [arXiv 1910.01279](https://arxiv.org/abs/1910.01279)" in text


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_where_it_is_undefined(name):
    assert "NaN" in undefined_case(getattr(metrics, name))


def test_every_command_is_on_its_page(generated):
    text = generated["reference/command_line.md"]
    assert [name for name in COMMANDS if help_of(name) not in text] == []
    assert "--image-size" in help_of("explain")


SOURCES = Bibliography(read_sources())


@pytest.mark.parametrize("table", [METHODS, METRICS, DATASETS, MODELS, GUIDANCE], ids=lambda t: next(iter(t)))
def test_every_source_is_in_the_bibliography(table):
    for spec in table.values():
        for family, year in SOURCE.findall(spec.reference):
            source = SOURCES.find(family, year)
            assert source is not None, f"{spec.name}: {family} {year}"
            numbers = re.findall(rf"{family} {year}, arXiv ([\d.]+)", spec.reference)
            assert numbers in ([], [source.eprint]), f"{spec.name}: {source.eprint}"


def test_a_source_may_be_named_in_several_ways():
    names = ["Wah et al., CNS-TR-2011-001, Caltech 2011", "Leibe and Schiele, CVPR 2003, on Winn et al., ICCV 2005"]
    assert [SOURCE.findall(n) for n in names] == [[("Wah", "2011")], [("Leibe", "2003"), ("Winn", "2005")]]
    assert (
        SOURCES.linked("Nobody 1999, arXiv 1312.6034")
        == "Nobody 1999, [arXiv 1312.6034](https://arxiv.org/abs/1312.6034)"
    )


def test_a_script_of_the_gallery_draws_what_its_page_shows():
    *_, script = scripts(DOCS / "gallery")
    figure = run(script)
    assert figure.axes
    page = gallery_page(DOCS / "gallery")
    assert f"{script.stem}.jpg" in page
    assert "montage(" in page
