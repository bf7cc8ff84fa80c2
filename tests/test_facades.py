"""What lies outside the package uses it as its users do: by ``sibx`` and the facades of its packages alone."""

import ast
import json
import pkgutil
from pathlib import Path

import pytest

import sibx

ROOT = Path(__file__).parent.parent
PACKAGES = {"sibx"} | {f"sibx.{module.name}" for module in pkgutil.iter_modules(sibx.__path__) if module.ispkg}


def sources():
    for folder in ("benchmarks", "docs", "examples", "notebooks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
            plain = [line for cell in code for line in cell.splitlines() if not line.startswith(("%", "!"))]
            yield path, "\n".join(plain)


def imported(source):
    """Modules of sibx that a source imports, and for ``from a import b`` the names that it takes from there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sibx":
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.split(".")[0] == "sibx")


@pytest.mark.parametrize(("path", "source"), [pytest.param(p, s, id=p.name) for p, s in sources()])
def test_only_facades_are_imported(path, source):
    for module, names in imported(source):
        assert module in PACKAGES, f"{path.name} imports {module}"
        private = [name for name in names if name.startswith("_")]
        assert not private, f"{path.name} imports {private}"


def test_the_check_sees_what_it_is_for():
    assert list(imported("from sibx.metrics._road import road\nimport sibx.cli, os")) == [
        ("sibx.metrics._road", ["road"]),
        ("sibx.cli", []),
    ]
