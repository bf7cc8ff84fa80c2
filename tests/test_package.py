"""The package as a whole: importing it is light, its names exist, its errors name what is wrong."""

import ast
import importlib
import operator
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch

import sibx
from sibx import _checks

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchvision", "pandas", "cv2", "matplotlib.pyplot", "captum", "skimage")


def test_import_is_light():
    code = f"import sys, sibx; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_that_of_the_newest_change():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert newest.group(1) == sibx.__version__


def test_contributors_find_what_they_are_sent_to():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:sibx|tests|docs|benchmarks)/[\w./]*)`|\]\((docs/.+?)\)", text)
    assert len(places) >= 12
    assert [place for pair in places for place in pair if not (ROOT / place).exists()] == []
    tables = re.findall(r"`(sibx/[\w/]+)\.py` \(`([A-Z]+)`\)", text)
    assert {name for _, name in tables} == {"METHODS", "DATASETS", "TRAININGS", "GUIDANCE", "MODELS"}
    for module, name in tables:
        assert hasattr(importlib.import_module(module.replace("/", ".").removesuffix(".__init__")), name)


def test_the_citation_can_be_read():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found.keys() >= {"cff-version", "message", "title", "authors"}  # what the format asks for
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (found["title"], found["license"]) == (project["name"], project["license"])
    assert "2511.09239" in found["preferred-citation"]["url"]


@pytest.mark.parametrize("name", sibx.__all__)
def test_every_public_name_exists_and_is_documented(name):
    value = getattr(sibx, name)
    assert name in dir(sibx)
    if callable(value):
        assert value.__doc__


def test_private_functions_of_captum_enter_by_one_door():
    found = [p.name for p in Path(sibx.__file__).parent.rglob("*.py") if "captum._" in p.read_text(encoding="utf-8")]
    assert found == ["_captum.py"]


def test_no_function_hides_its_module():
    """``sibx.metrics.road`` is the function; were there a module of that name, nobody could get at it."""
    packages = [module.name for module in pkgutil.walk_packages(sibx.__path__, "sibx.") if module.ispkg]
    hidden = [
        f"{package}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if module.name in getattr(sys.modules[package], "__all__", ())
    ]
    assert hidden == []


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="No sibx attribute SIBAtribution"):
        operator.attrgetter("SIBAtribution")(sibx)


def test_what_is_imported_is_a_dependency_with_a_lowest_version():
    """Or comes with an extra: ``make test-lowest`` relies on it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.fullmatch(r"([\w-]+)>=[\d.]+", line) for line in project["dependencies"]]
    assert None not in needed
    extras = "\n".join(line for lines in project["optional-dependencies"].values() for line in lines)
    named = {*(found.group(1) for found in needed), *re.findall(r"^[\w-]+", extras, re.MULTILINE)}
    named = {name.replace("_", "-") for name in named}
    homes = packages_distributions()
    for path in Path(sibx.__file__).parent.rglob("*.py"):
        for name in imported(path) - sys.stdlib_module_names - {"sibx"}:
            assert named & {home.lower().replace("_", "-") for home in homes.get(name, [name])}, f"{path}: {name}"


def imported(path):
    """The packages that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_it = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in plain + from_it}


def test_main_import():
    from sibx import SIBAttribution

    assert SIBAttribution.__name__ == "SIBAttribution"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sibx.build_dataset("sinthetic"), r"`name` must be one of synthetic, .*did you mean 'synthetic'"),
        (lambda: sibx.build_model("resnet81", 3), r"`name` must be one of .*did you mean 'resnet18'"),
        (lambda: sibx.build_model("tiny_cnn", 0), r"`num_classes` must be at least 1, but got 0"),
        (lambda: sibx.build_model("tiny_cnn", 2, "x.pt"), r"`weights` must be None for tiny_cnn"),
        (lambda: sibx.build_method("gradcamm", None), r"`name` must be one of .*did you mean 'gradcam'"),
        (lambda: sibx.build_dataset("oxford-pets", "nowhere"), r"`root` must be a folder laid out as .*trimaps"),
        (lambda: sibx.build_dataset("folder", "nowhere"), r"`root` must be a folder laid out as <root>/images/<class>"),
        (lambda: sibx.build_dataset("folder", None), r"`root` must be a folder .* but got None"),
        (lambda: sibx.build_dataset("synthetic", split="tset-id"), r"`split` must be one of .*did you mean 'test-id'"),
        (lambda: sibx.build_dataset("synthetic", rho=1.5), r"`rho` must lie in \[0, 1\], but got 1.5"),
        (lambda: sibx.SIBConfig(form="cubic"), r"`form` must be one of linear, exponential, but got 'cubic'"),
        (lambda: sibx.TrainConfig(batch_size=1), r"`batch_size` must be at least 2, but got 1"),
    ],
)
def test_errors_name_argument_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_describe_repeats_tensors_by_shape():
    assert _checks.describe(torch.zeros(2, 3)) == "a float32 tensor of shape (2, 3)"


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.tensor([True, False]), torch.tensor([[0, 1]])])
def test_labels_must_be_integer_vectors(labels):
    with pytest.raises(ValueError, match="`labels` must be an integer tensor"):
        _checks.check_labels(labels, torch.zeros(2, 3))


def test_labels_must_be_in_range():
    with pytest.raises(ValueError, match=r"`labels` must lie in 0..2, the model's classes, but got \(0, 3\)"):
        _checks.check_labels(torch.tensor([0, 3]), torch.zeros(2, 3))
