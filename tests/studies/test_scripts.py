"""The smaller scripts of benchmarks/, in small: what they measure is what they say."""

import importlib
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


def test_peers(monkeypatch, capsys):
    for name in ("quantus", "torchcam", "pytorch_grad_cam"):
        pytest.importorskip(name, reason="needs the extra reference")
    peers = script("peers", monkeypatch)
    for name, value in {"SIDE": 40, "MANY": 4, "FEW": 2}.items():
        monkeypatch.setattr(peers, name, value)
    peaks = {(256, True): 500, (2048, True): 506, (2048, False): 520}
    monkeypatch.setattr(peers, "peak_memory", lambda images, out_dir: peaks[images, out_dir is not None])
    assert peers.memory() == 1
    peaks[2048, True] = 505
    assert peers.memory() == 0
    peers.main(rounds=1)
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    rates = {cells[0][2:]: cells for cells in lines if len(cells) == 5}
    assert {"foreground focus", "ROC-AUC", "average precision"} <= rates.keys()
    assert rates["deletion + insertion"][1:3] == ["57", "57"]
    ratios = {cells[0]: float(cells[1]) for cells in lines if cells[0] in ("| sibx", "| grad-cam")}
    assert 0.5 < ratios["| sibx"] < ratios["| grad-cam"]
    maps, masks = peers.draw_maps(4)
    assert maps.shape == masks.shape == (4, 1, 40, 40)
    assert (maps == 0).any()
    assert masks.flatten(1).any(1).all()


def test_memory(tmp_path, monkeypatch, capsys):
    memory = script("memory", monkeypatch)
    memory.main(images=3, out_dir=tmp_path / "out")
    assert 100 < int(capsys.readouterr().out) < 100_000
    assert (tmp_path / "out" / "results.csv.gz").is_file()


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


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("scaling")  # under the name by which a new process finds it


def test_scaling_model(scaling):
    links = dict.fromkeys(scaling.PASSES, scaling.Link(latency=1e-3, bandwidth=1e6))
    seconds = {o: scaling.Exchange("", o, 8000).seconds(4, links) for o in scaling.PASSES}
    # 3 passes of 2 kB, 6 of 2 kB, 2 of 8 kB
    assert seconds == pytest.approx({"all_gather": 0.009, "all_reduce": 0.018, "broadcast": 0.018})


@pytest.mark.slow  # starting two interpreters takes several seconds
def test_scaling(scaling):
    measured = scaling.measure(scaling.Setting("tiny_cnn", 32, 8, rounds=1, probe=2**20))
    network = TinyCNN(scaling.CLASSES)
    sizes = {part: [e.size for e in measured.exchanges if e.part == part] for part in scaling.PARTS}
    assert sum(sizes["gradients"]) == 4 * sum(p.numel() for p in network.parameters())
    assert sizes["buffers"] == [sum(b.nbytes for b in network.buffers())]
    features = 8 * 64 * 8 * 8 * 4  # the rows of R M, of 8 images with 64 channels on an 8 x 8 grid
    assert scaling.Exchange("gathers", "all_gather", features) in measured.exchanges
    assert scaling.Exchange("gathers", "all_reduce", features) in measured.exchanges  # its backward pass
    assert min(*measured.steps.values(), *measured.compute.values(), *measured.parts.values()) > 0

    rows = [line.split(" | ") for line in scaling.step_table(measured).splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 1", "| 2", "| 2", "| 4", "| 8", "| 16"]
    compute, step = (np.array([float(row[i]) for row in rows[2:]]) for i in (2, 6))
    assert np.allclose(compute, measured.steps[1] / np.array([2, 4, 8, 16]), atol=1e-3)
    assert (step >= compute).all()
    assert scaling.exchange_table(measured).count("\n") == 4
