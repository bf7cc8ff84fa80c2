"""``sibx doctor``: what is there and what is missing, and an exit code by its self-test."""

import re
from importlib.metadata import requires

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from sibx.cli import doctor, main
from tests.helpers.trees import save, save_picture


def run(*words):
    return main(["doctor", *map(str, words), "--device", "cpu"])


@pytest.fixture
def tree(tmp_path):
    for label in ("cat", "dog"):
        for number in range(10):
            save_picture(tmp_path / "mine" / "images" / label / f"{number}.png", 100)
            save(tmp_path / "mine" / "masks" / label / f"{number}.png", np.full((20, 24), 255, dtype=np.uint8))
    (tmp_path / "other" / "images").mkdir(parents=True)
    return tmp_path


def test_what_is_there(tree, capsys):
    assert run("--root", tree) == 0
    out = capsys.readouterr().out
    for name in ("python", *doctor.PACKAGES, "device", "extra timm"):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE), name
    assert "extra dev" not in out
    assert re.findall(r"^data .*$", out, re.MULTILINE) == [
        line for line in out.splitlines() if f"folder: --root {tree / 'mine'} (" in line
    ]
    assert "self-test: sib and gradcam of a drawn picture on cpu in" in out
    assert run("--root", tree / "other") == 0
    assert "nothing in " in capsys.readouterr().out
    assert run("--root", tree / "none") == 2
    assert "`root` must be a folder" in capsys.readouterr().err


def test_what_is_missing(monkeypatch, capsys):
    lines = ["torch>=2.6", "none-such>=1; extra == 'timm'", "torch>=999; extra == 'hf'", 'torch; extra == "yaml"']
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    assert run() == 0
    found = dict(re.findall(r"^extra (\w+) +(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert found["timm"] == "pip install 'sibx[timm]' (none-such is missing)"
    assert re.fullmatch(r"pip install 'sibx\[hf\]' \(torch \S+ is not >=999\)", found["hf"])
    assert found["yaml"] == "installed"
    assert len(found) == 3


def test_extras_of_real_metadata():
    assert {extra for need in map(Requirement, requires("sibx")) for extra in doctor._extras_of(need)} >= {
        "timm",
        "yaml",
    }


@pytest.mark.parametrize("value", [torch.nan, 0.0])
def test_a_failed_self_test(value, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "explain", lambda *_: torch.full((1, 1, 32, 32), value))
    assert run() == 1
    assert "self-test FAILED: ValueError: `sib` must give a finite map" in capsys.readouterr().out
