"""Packages that add lines to the tables by entry points: fake distributions on sys.path."""

import importlib
import subprocess
import sys
import warnings

import pytest

from sibx import DATASETS, METHODS, METRICS, MODELS
from sibx._plugins import Table, only
from sibx.attribution import MethodSpec, to_method
from sibx.cli import main
from sibx.models import ModelSpec
from tests.helpers.studies import environment

GOOD = """
import torch
from sibx.metrics import MetricSpec
from sibx.models import ModelSpec, TinyCNN
from sibx.datasets import DatasetSpec, SyntheticDataset

def halves(model, images, targets):
    return images[:, :1] * 0 + 0.5

def top(heatmaps):
    return heatmaps.flatten(1).amax(1)

def build(classes, weights=None):
    net = TinyCNN(classes)
    if weights:
        net.load_state_dict(torch.load(weights))
    return net

def read(root, split, size, **options):
    return SyntheticDataset("test-id", size, size=2)

MODEL = ModelSpec("their_net", "Their net", build, "them")
DATA = DatasetSpec(
    name="their_data", title="Their data", build=read, splits=("test",), image_size=32, masks="drawn",
    reference="them", licence="none",
)
"""
MISSING = "AttributeError: module 'their_package' has no attribute 'nothing'"
POINTS = {
    "sibx.methods": ["halves = {module}:halves", "gradcam = {module}:halves", "gone = {module}:nothing"],
    "sibx.metrics": ["top = {module}:top"],
    "sibx.models": ["their_net = {module}:MODEL", "no_model = {module}:top"],
    "sibx.datasets": ["their_data = {module}:DATA"],
}


def install(folder, name, source, points):
    """What an installer leaves: a module, and a folder with the package's name and its entry points."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    groups = [f"[{group}]\n" + "\n".join(lines).format(module=name) for group, lines in points.items()]
    (info / "entry_points.txt").write_text("\n\n".join(groups))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    for table in (METHODS, METRICS, MODELS, DATASETS):
        len(table)  # those of this process are read before there is a package
    install(tmp_path, "their_package", GOOD, POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("their_package", None)
    importlib.invalidate_caches()


def fresh(table):
    return Table(table.group, table._lines.values(), table._read)


def test_lines_of_a_package(installed):
    methods, models = fresh(METHODS), fresh(MODELS)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert list(methods)[-1] == "halves"
        assert list(models)[-1] == "their_net"
    texts = sorted(str(w.message).partition(" is left out: ") for w in warned)
    assert [(plugin, reason.split(",")[0]) for plugin, _, reason in texts] == [
        ("'gone' of their_package 1.2 (sibx.methods)", MISSING),
        ("'gradcam' of their_package 1.2 (sibx.methods)", "ValueError: there is a 'gradcam' of sibx already"),
        ("'no_model' of their_package 1.2 (sibx.models)", "ValueError: it must be a ModelSpec"),
    ]
    assert methods["gradcam"] is METHODS["gradcam"]
    assert (methods.origin("halves"), methods.origin("gradcam")) == ("their_package 1.2", "sibx")
    assert isinstance(methods["halves"], MethodSpec)
    assert list(fresh(METRICS))[-1] == "top"
    assert list(fresh(DATASETS))[-1] == "their_data"


PROGRAM = """
import sys, torch
from sibx.cli import main
from sibx.models import TinyCNN
torch.save(TinyCNN(8).state_dict(), "w.pt")
sys.exit(any([main(sys.argv[1:]), main(["methods"]), main(["models"])]))
"""


def test_the_program_uses_and_lists_them(installed, tmp_path):
    """In a process of its own: the tables of this one have been read."""
    words = ["evaluate", "--dataset", "their_data", "--model", "their_net", "--weights", "w.pt", "--num-classes", "8"]
    words += ["--methods", "halves", "sib", "--metrics", "top", "--device", "cpu", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": f"{installed}:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is left out") == 3
    lines = done.stdout.splitlines()
    assert any("| halves" in line for line in lines)  # the scores
    assert [line.split()[0] for line in lines if "their_package 1.2" in line] == ["halves", "their_net"]


def test_a_package_is_imported_when_a_table_is_used(tmp_path, monkeypatch):
    install(tmp_path, "loud_package", "raise RuntimeError('loud')", {"sibx.models": ["loud = {module}:MODEL"]})
    monkeypatch.syspath_prepend(tmp_path)
    table = Table("sibx.models", MODELS._lines.values(), only(ModelSpec))
    assert "loud_package" not in sys.modules
    with pytest.warns(UserWarning, match=r"'loud' of loud_package 1.2 \(sibx.models\) is left out: RuntimeError: loud"):
        assert "resnet18" in table
    assert "loud" not in table  # and no second warning


def test_a_table_takes_lines_of_this_process():
    table = fresh(METHODS)
    table["mine"] = to_method(lambda images, targets: images, "mine")
    assert "mine" in table
    assert "mine" not in METHODS


@pytest.mark.parametrize("command", ["methods", "metrics", "datasets", "models"])
def test_tables_say_where_lines_come_from(command, capsys):
    assert main([command]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    column = head.index("from")
    assert {line[column : column + 4] for line in lines} == {"sibx"}
