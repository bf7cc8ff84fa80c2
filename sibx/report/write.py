"""A report of results as files: a page to read, Markdown, and tables for a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sibx._files import write_atomically
from sibx.evaluation import Results
from sibx.report.citations import to_bibtex
from sibx.report.claims import MARGIN, Comparison
from sibx.report.content import Histories, gather
from sibx.report.gallery import GalleryItem
from sibx.report.html import to_html
from sibx.report.latex import to_latex
from sibx.report.markdown import to_report

PAGE_FILE, MARKDOWN_FILE, LATEX_FILE, SOURCES_FILE = "report.html", "report.md", "tables.tex", "references.bib"


def write_report(
    results: Results,
    folder: str | Path,
    *,
    gallery: Sequence[GalleryItem] = (),
    histories: Histories | None = None,
    comparisons: Sequence[Comparison] | None = None,
    directions: Mapping[str, bool] | None = None,
    margin: float = MARGIN,
    title: str = "",
) -> Path:
    """Write ``report.html``, ``report.md``, ``tables.tex`` and ``references.bib`` into a folder, each complete or not.

    The page is one file of at most 15 MB that fetches nothing: what the scores show, claim by claim; tables to sort
    and to filter; curves with bands; the gallery; how the classifier does on other backgrounds; training curves; where
    data and models come from; ``results.info``. What there is no data for is left out. ``references.bib`` holds the
    sources of the methods, metrics, data sets and models that are in the rows.

    Args:
        results: results of any number of data sets, models and trainings; those of ``evaluate_reliance`` and
            ``evaluate_robustness`` may be among them (``Results.concat``). Of ``info``, a training's epochs are read
            from ``info["training_log"][training]["history"]``, and versions from wherever there are any.
        folder: folder to write into; made if needed.
        gallery: images with their maps, in the order in which they are shown; their scores are found in the rows.
        histories: training -> one line per epoch, as FineTuneResult has them; by default what ``info`` holds.
        comparisons: pairs of trainings, whose gain is asked for and over which; default every training against ``ce``
            (without it: against the first), and S-IB against its control with shuffled masks.
        directions: metric of your own -> whether higher is better.
        margin: what accuracy may lose and still count as held.
        title: title of the page; by default the data sets and models.

    Returns:
        The page's path.

    Raises:
        ValueError: results without a row or with a score twice, a training in ``comparisons`` that is not in the
            results, or a margin outside of [0, 1].
    """
    content = gather(
        results, histories=histories, comparisons=comparisons, directions=directions, margin=margin, title=title
    )
    files = {
        PAGE_FILE: to_html(content, gallery),
        MARKDOWN_FILE: to_report(content),
        LATEX_FILE: to_latex(content),
        SOURCES_FILE: to_bibtex(results),
    }
    for name, text in files.items():
        write_atomically(Path(folder) / name, text.encode(errors="replace"))
    return Path(folder) / PAGE_FILE
