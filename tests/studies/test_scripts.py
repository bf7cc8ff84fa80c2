"""The smaller scripts of benchmarks/, in small: what they measure is what they say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sibx import METHODS, TrainConfig, build_dataset
from sibx.datasets import InMemoryDataset
from sibx.models import TinyCNN

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


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


@pytest.fixture
def train_sib(monkeypatch):
    """The studies, of 48 images a split and one epoch."""
    train_sib = script("train_sib", monkeypatch)
    brief = TrainConfig(epochs=1, batch_size=16)
    recipe = train_sib.Recipe(start=brief, tune=brief, test_images=3)
    for name in ("embedded", "scratch"):
        study = train_sib.replace(train_sib.STUDIES[name], recipe=recipe, image_size=32)
        monkeypatch.setitem(train_sib.STUDIES, name, study)
    whole = train_sib.load_splits

    def few(*arguments, **options):
        return {name: train_sib.subset(data, 48) for name, data in whole(*arguments, **options).items()}

    monkeypatch.setattr(train_sib, "load_splits", few)
    return train_sib


@pytest.mark.slow
def test_study_from_scratch(tmp_path, train_sib, capsys):
    train_sib.main(study="scratch", seeds=1, threads=1, out=tmp_path)
    printed = capsys.readouterr().out
    assert all(name in printed for name in train_sib.FROM_NOTHING)
    weights = [torch.load(f)["classifier.weight"] for f in sorted(tmp_path.glob("study-scratch/seed-0/*/model.pt"))]
    assert len(weights) == len(train_sib.FROM_NOTHING)
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    assert not (tmp_path / "study-scratch" / "seed-0" / "start.pt").exists()


def test_adaptive_curves(tmp_path, monkeypatch, capsys):
    adaptive_curves = script("adaptive_curves", monkeypatch)
    for name, value in {"SIDE": 32, "FINEST": 28, "FIXED": (14, 28), "TOLERANCES": (0.1, 1e-9)}.items():
        monkeypatch.setattr(adaptive_curves, name, value)
    monkeypatch.setattr(adaptive_curves, "build_model", lambda *_: TinyCNN(8))
    torch.manual_seed(0)
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (40, 50, 3))
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"{i}.jpg")
    adaptive_curves.main(tmp_path, "weights", images=4, tolerance=1e-3, out=tmp_path / "out")
    printed = capsys.readouterr().out
    curves = torch.load(tmp_path / "out" / "curves.pt")
    assert [c.shape for c in curves.values()] == [(4, 29)] * 2
    every, finest = (next(r for r in printed.splitlines() if key in r) for key in ("| 28 equal", "tolerance 1e-09"))
    assert every.count("29.0, 100.0%") == finest.count("29.0, 100.0%") == 3
    assert all(r.endswith("| 0.0000 | 0.0000 |") for r in (every, finest))
    few, points = adaptive_curves.adaptive(curves["deletion"], 0.1)
    assert (points < 29).all()
    assert torch.allclose(few, torch.trapezoid(curves["deletion"], dx=1 / 28), atol=0.1)

    # Curves that are there are not recorded again.
    monkeypatch.setattr(adaptive_curves, "record", lambda *_: pytest.fail("recorded again"))
    adaptive_curves.main(tmp_path, "weights", tolerance=1e-3, out=tmp_path / "out")
    assert adaptive_curves.table(curves, 1e-3) in capsys.readouterr().out


@pytest.mark.slow
def test_train_sib(tmp_path, train_sib, capsys):
    names = ["ce", "sib", "sib-given-shuffled", "sib-self", "sib-shuffled"]
    train_sib.main(seeds=2, trainings=names[:3], threads=1, out=tmp_path)
    assert "sib-self" not in capsys.readouterr().out
    folder = tmp_path / "study-embedded"
    kept = {f: f.read_bytes() for f in folder.glob("seed-*/*/*") if f.parent.name in names[:3]}
    assert len(kept) == 2 * 3 * 4

    train_sib.main(seeds=2, trainings=names, threads=1, out=tmp_path)
    printed = capsys.readouterr().out
    assert kept == {f: f.read_bytes() for f in kept}  # a finished training is not repeated
    assert (folder / "summary.md").read_text(encoding="utf-8").strip() in printed
    for text in ("worst group", "sib-self - sib-shuffled", "Foreground focus: paired", "over images", "±"):
        assert text in printed
    assert "background-swap" not in printed
    assert all((folder / f"{name}.png").stat().st_size > 10_000 for name in ("focus", "accuracy"))

    cells = {(name, s): train_sib.Results.load(folder / f"seed-{s}" / name) for s in (0, 1) for name in ("ce", "sib")}
    assert {c.info["accuracy"].keys() >= {"test-id", "worst group"} for c in cells.values()} == {True}
    focus = {k: c.where(metric="foreground_focus", method="gradcam").rows["value"].mean() for k, c in cells.items()}
    expected = np.mean([focus["sib", s] - focus["ce", s] for s in (0, 1)])
    _, over_seeds = printed.split("Foreground focus: paired difference over seeds")
    _, over_images = over_seeds.split("paired difference over images")
    for part in (over_seeds, over_images):
        header, line = (next(row for row in part.splitlines() if row.startswith(w)) for w in ("| claim", "| sib - ce"))
        column = [cell.strip() for cell in header.split("|")].index("gradcam")
        assert float(line.split("|")[column].split()[0]) == pytest.approx(expected, abs=6e-4)


def test_pairs_without_a_value_are_left_out(monkeypatch):
    paired = script("paired", monkeypatch)
    values = {("ce", 0): [0.1, 0.2, 0.3], ("ce", 1): [0.1, np.nan, 0.3], ("sib", 0): [0.4, 0.4, 0.4]}
    values["sib", 1] = [np.nan, 0.9, 0.5]
    rows = [(t, s, "vjp", i, v) for (t, s), column in values.items() for i, v in enumerate(column)]
    table = pd.DataFrame(rows, columns=["training", "seed", "what", "image_id", "value"])
    pairs = paired.paired(table, "sib", "ce", "vjp")
    assert pairs.to_numpy() == pytest.approx([0.3, 0.2, 0.1, 0.2])
    assert paired.difference(table, "sib", "ce", "vjp").mean == pytest.approx((0.2 + 0.2) / 2)
    assert paired.gains_over_images(table).loc["sib - ce", "vjp"].startswith("+0.217")  # of .3, .2 and .15
    assert paired.undefined(table)["vjp"].to_dict() == {"ce": "1", "sib": "1"}
    assert "without focus, of 3 images and 2 seeds" in paired.report(table, {"Focus": table}, 2)


def test_arms_at_a_layer(monkeypatch):
    arms = script("arms", monkeypatch).ARMS
    there = {name: arm.at({"layer2": 1.0}) for name, arm in arms.items()}
    assert there["ce"].loss is None
    assert {n for n, a in there.items() if a.loss and a.loss.layers == {"input": 1.0}} == {
        n for n in arms if "soft" in n
    }
    assert all(a.loss.layers == {"layer2": 1.0} for n, a in there.items() if a.loss and "soft" not in n)
    assert all(a.reading.layers == {"layer2": 1.0} for a in there.values())
    assert all(arm.at("auto") == arm for arm in arms.values())


@pytest.mark.slow
def test_factors(tmp_path, monkeypatch, capsys):
    factors = script("factors", monkeypatch)
    for name, value in {"START": 48, "TRAIN": 48, "JUDGED": 32, "EXPLAINED": 2}.items():
        monkeypatch.setattr(factors, name, value)
    brief = TrainConfig(epochs=1, batch_size=16)
    monkeypatch.setattr(factors, "FROM_SCRATCH", factors.replace(factors.FROM_SCRATCH, start=brief, tune=brief))
    factors.main(seeds=[0], designs=["ramp"], out=tmp_path)
    cells = factors.load_cells(tmp_path).set_index("arm")
    assert set(cells.index) == set(factors.ARMS)
    assert set(capsys.readouterr().out.split()) >= set(factors.ARMS)
    assert cells.loc["truth", "mask precision"] == 1
    assert cells.loc["base", "mask precision"] == cells.loc["base-shuffled", "mask precision"] < 1
    assert np.isnan(cells.loc["online", "mask precision"])

    # Every arm is another training: no two end with the same weights.
    weights = [torch.load(f)["classifier.weight"] for f in sorted(tmp_path.glob("ramp/seed-0/*.pt"))]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    networks = [n for n in factors.NETWORKS if n != "tiny_cnn"]
    for name in networks:
        factors.main(seeds=[0], designs=["ramp"], arms=["ce", "base"], network=name, out=tmp_path)
    cells = factors.load_cells(tmp_path)
    assert set(cells["design"]) == {"ramp", *(f"ramp {n}" for n in networks)}
    monkeypatch.setattr(factors, "learn", lambda *_: pytest.fail("a finished arm was repeated"))
    factors.main(seeds=[0], designs=["ramp"], out=tmp_path)
