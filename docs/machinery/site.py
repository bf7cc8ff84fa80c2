"""The Sphinx extension: writes the generated pages before the build, and draws formulas without a script."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

from docs.machinery.gallery import gallery_page, gallery_pictures
from docs.machinery.pages import reference_pages

LITERAL = re.compile(r"(``.+?``)")
MARKUP = re.compile(r"[|*]|(?<=\w)_(?!\w)")  # what reStructuredText would read as more than a character


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what there is."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", _write_pages)
    app.connect("autodoc-process-docstring", _plain, priority=400)  # before napoleon, which adds markup
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir)
    pages = reference_pages() | {"gallery/index.md": gallery_page(folder / "gallery")}
    for name, text in pages.items():
        write_if_new(folder / name, text)
    gallery_pictures(folder / "gallery")


def write_if_new(path: Path, text: str) -> None:
    """Write a page unless it says so already: Sphinx reads again what is younger than its last build."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Let docstrings say |x| and p* without meaning markup; code between double backticks and examples stay."""
    lines[:] = [line if ">>>" in line else _without_markup(line) for line in lines]


def _without_markup(line: str) -> str:
    parts = LITERAL.split(line)
    return "".join(p if LITERAL.fullmatch(p) else MARKUP.sub(lambda m: f"\\{m[0]}", p) for p in parts)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{_mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(formula: str, *, block: bool) -> str:
    found: str = latex2mathml.tex2mathml(formula, as_block=block)
    return found
