"""The smaller scripts of benchmarks/, in small: what they measure is what they say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sibx import METHODS, build_dataset
from sibx.datasets import InMemoryDataset
from sibx.models import TinyCNN

FOLDER = Path(__file__).parent.parent / "benchmarks"


def script(name, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # scripts import their neighbors

    specification = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def test_post_hoc(monkeypatch):
    post_hoc = script("post_hoc", monkeypatch)
    torch.manual_seed(0)
    images = InMemoryDataset.load(build_dataset("synthetic", None, "val", 32), range(3))
    wanted = {name for pair in post_hoc.PAIRS for name in pair}
    methods = [m for m in post_hoc.candidates("features.5") if m.name in wanted]
    scores = post_hoc.measure(TinyCNN(8), images, methods).set_index(["method", "metric"])["mean"]
    for first, second in post_hoc.PAIRS:
        difference = scores[f"{first} - {second}"] - (scores[first] - scores[second])
        assert np.allclose(difference.to_numpy(), 0)
    assert scores["R M (published M)", "foreground_focus"] != scores["R", "foreground_focus"]


def test_gallery(tmp_path, monkeypatch):
    gallery = script("gallery", monkeypatch)
    monkeypatch.setattr(gallery, "SIDE", 32)
    monkeypatch.setattr(gallery, "QUICK", {"rise": lambda model: gallery.RISE(model, masks=10)})
    for name, color in (("a", (200, 30, 30)), ("b", (30, 30, 200))):
        noise = np.random.default_rng(0).integers(0, 50, (40, 50, 3))
        Image.fromarray((noise + np.array(color)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    out = tmp_path / "new" / "gallery.png"
    gallery.main(tmp_path / "a.png", tmp_path / "b.png", (0, 5), None, "tiny_cnn", out)
    with Image.open(out) as drawn:
        assert drawn.width > 4 * drawn.height / len(METHODS)
        assert len(drawn.convert("RGB").getcolors(10**6)) > 1000


def test_cost(monkeypatch):
    pytest.importorskip("pytorch_grad_cam", reason="needs the extra reference")
    cost = script("cost", monkeypatch)
    tensors = torch.rand(500, 500)
    twice = cost.Case("", lambda: [tensors @ tensors for _ in range(8)], lambda: [tensors @ tensors] * 8, 2)
    value, seconds = cost.ratio(twice, 5, "cpu")
    assert 1.5 < value < 8  # eight products against one, in units of two
    assert seconds > 0
    # Two tensors of 4 MiB at a time.
    assert cost.peak_memory(lambda: torch.ones(2**20).add(1).sum(), "cpu") == pytest.approx(8, abs=0.1)
