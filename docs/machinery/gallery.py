"""The gallery: every script of docs/gallery becomes a picture beside its own code.

A script begins with a docstring, whose first line is its title, and ends with a ``figure``.
"""

import ast
import runpy
from pathlib import Path

from matplotlib.figure import Figure

from docs.machinery.markdown import page

DPI, QUALITY = 100, 88


def scripts(folder: Path) -> list[Path]:
    """Return the scripts in the order of their names."""
    return sorted(folder.glob("*.py"))


def gallery_page(folder: Path) -> str:
    """Return the page with every picture and the code that draws it."""
    about = "Every picture is drawn by the code below it when the site is built: copy one and put your own picture in."
    return page(["# Gallery", about, *map(_entry, scripts(folder))])


def _entry(script: Path) -> str:
    code = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(code)) or ""
    title, _, text = docstring.partition("\n\n")
    picture = f"```{{image}} {script.stem}.jpg\n:alt: {title.rstrip('.')}\n```"
    return "\n\n".join([f"## {title.rstrip('.')}", text, picture, f"```python\n{_without_docstring(code)}\n```"])


def _without_docstring(code: str) -> str:
    end = ast.parse(code).body[0].end_lineno or 0
    return "\n".join(code.splitlines()[end:]).strip()


def gallery_pictures(folder: Path) -> None:
    """Draw the picture of every script that is younger than its picture."""
    for script in scripts(folder):
        picture = script.with_suffix(".jpg")
        if not picture.is_file() or picture.stat().st_mtime < script.stat().st_mtime:
            run(script).savefig(picture, dpi=DPI, bbox_inches="tight", pil_kwargs={"quality": QUALITY})


def run(script: Path) -> Figure:
    """Run a script and return its figure."""
    figure: Figure = runpy.run_path(str(script))["figure"]
    return figure
