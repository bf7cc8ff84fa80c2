"""Docstrings: their examples run, and an argument is described where it stands."""

import ast
import doctest
import importlib
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import sibx

WITHOUT = ("sibx.__main__", *(("sibx.app.",) if find_spec("gradio") is None else ()))
MODULES = [m.name for m in pkgutil.walk_packages(sibx.__path__, "sibx.") if not m.name.startswith(WITHOUT)]
PACKAGES = ("attribution", "datasets", "evaluation", "images", "metrics", "models", "objectives", "report", "train")
WITH_EXAMPLE = (
    *("DensityMask", "GradCAM", "GuidanceConfig", "Normalization", "PromptScores", "SIBAttribution", "SIBConfig"),
    *("SIBLoss", "Scored", "TopShare", "TrainConfig", "build_dataset", "build_model", "cka", "contrast", "explain"),
    *("find_cam_layer", "fine_tune", "hsic", "receptive_field", "self_masks", "to_heatmap", "unwrap", "vjp"),
)
# "seed: of the draws" is not a phrase, and "model: as for ``fgsm``" sends the reader elsewhere.
HOP = re.compile(r"^\s+\*{0,2}\w+: (of|as|see) |\b(arguments|errors|fields)( \w+)* as (of |for |in )?``", re.IGNORECASE)


def public_names():
    """What an example may use without importing it: torch, and every name of a facade."""
    facades = [importlib.import_module(f"sibx.{name}") for name in PACKAGES]
    return {"torch": torch} | {name: getattr(facade, name) for facade in facades for name in facade.__all__}


def examples():
    for name in MODULES:
        found = doctest.DocTestFinder().find(importlib.import_module(name), name, globs=public_names())
        yield from (pytest.param(test, id=test.name) for test in found if test.examples)


@pytest.mark.parametrize("test", list(examples()))
def test_example_runs(test):
    report = []
    assert not doctest.DocTestRunner().run(test, out=report.append).failed, "".join(report)


def test_a_wrong_example_fails():
    test = doctest.DocTestParser().get_doctest(">>> torch.tensor(1) + 1\ntensor(3)", public_names(), "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda _: None).failed == 1


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_most_used_names_have_an_example(name):
    assert ">>> " in public_names()[name].__doc__


def hops(source):
    """Lines of docstrings that cannot be understood alone."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, documented))
    return [line.strip() for text in texts if text for line in text.splitlines() if HOP.search(line)]


def test_arguments_are_described_where_they_stand():
    files = sorted(Path(sibx.__file__).parent.rglob("*.py"))
    found = {path: hops(path.read_text(encoding="utf-8")) for path in files}
    assert {path.name: lines for path, lines in found.items() if lines} == {}


def test_the_rule_sees_what_it_looks_for():
    lines = ["seed: of the draws.", "seed: seed of the draws.", "model: as for ``fgsm``.", "classes: all of them."]
    text = '"""Do.\n\nErrors and arguments as ``fgsm``.\n\nArgs:\n    ' + "\n    ".join(lines) + '\n"""'
    assert hops(text) == ["Errors and arguments as ``fgsm``.", lines[0], lines[2]]
