"""benchmarks/cost/, in small: what its scripts measure is what they say."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sibx.metrics import METRICS
from sibx.models import TinyCNN

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "cost"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name, which is also that by which a new process finds it."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_explanations(script):
    pytest.importorskip("pytorch_grad_cam", reason="needs the extra reference")
    explanations = script("explanations")
    tensors = torch.rand(500, 500)
    twice = explanations.Case("", lambda: [tensors @ tensors for _ in range(8)], lambda: [tensors @ tensors] * 8, 2)
    value, seconds = explanations.ratio(twice, 5, "cpu")
    assert 1.5 < value < 8  # eight products against one, in units of two
    assert seconds > 0
    # Two tensors of 4 MiB at a time.
    assert explanations.peak_memory(lambda: torch.ones(2**20).add(1).sum(), "cpu") == pytest.approx(8, abs=0.1)
    assert script("passes").plain_formulas().loss


class TestMetrics:
    @pytest.fixture
    def metrics(self, script, monkeypatch):
        for name in ("quantus", "torchcam", "pytorch_grad_cam"):
            pytest.importorskip(name, reason="needs the extra reference")
        metrics = script("metrics")
        for name, value in {"SIDE": 40, "MANY": 4, "FEW": 2}.items():
            monkeypatch.setattr(metrics, name, value)
        return metrics

    def test_tables(self, metrics, monkeypatch, capsys):
        monkeypatch.setattr(metrics, "peak_memory", lambda *_: 500)
        metrics.main(rounds=1)
        lines = [[c.strip() for c in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
        rates = {cells[0]: cells for cells in lines if len(cells) == 6}
        plain = float(rates[f"plainly, {metrics.PLAIN}"][1])
        for rate in metrics.RATES:
            mine, ratio = (float(cell) for cell in rates[rate.name][1:3])
            assert ratio == pytest.approx(mine / plain, rel=0.06)  # two digits are shown
        (images,) = (cells[1:3] for cells in lines if cells[:1] == ["deletion + insertion"])
        assert images == ["57", "57"]
        ratios = {cells[0]: float(cells[1]) for cells in lines if cells and cells[0] in ("sibx", "grad-cam")}
        assert 0.5 < ratios["sibx"] < ratios["grad-cam"]

    def test_limits(self, metrics, monkeypatch):
        """A ratio is missed where the plain form is fast enough."""
        scores = len(metrics.RATES)
        for seconds, missed in ((1.0, 0), (1e-9, scores)):
            times = iter([[seconds, *[1.0] * scores], [1.0], [1.0] * scores])
            monkeypatch.setattr(metrics, "medians", lambda runs, _, times=times: next(times)[: len(runs)])
            assert metrics.localization(1) == missed
        peaks = {(256, True): 500, (2048, True): 506, (2048, False): 520}
        monkeypatch.setattr(metrics, "peak_memory", lambda images, out_dir: peaks[images, out_dir is not None])
        assert metrics.memory() == 1
        peaks[2048, True] = 505
        assert metrics.memory() == 0

    def test_what_is_scored(self, metrics):
        maps, masks = metrics.draw_maps(4, 40)
        assert maps.shape == masks.shape == (4, 1, 40, 40)
        assert (maps == 0).any()
        assert masks.flatten(1).any(1).all()
        expected = (maps * masks).flatten(1).sum(1) / maps.flatten(1).sum(1)
        assert torch.allclose(metrics.plain(maps, masks), expected)
        assert len(metrics.all_of_the_table(maps, masks)) == sum(spec.needs_masks for spec in METRICS.values())


def test_evaluation_peak(script, tmp_path, capsys):
    script("evaluation_peak").main(images=3, out_dir=tmp_path / "out")
    assert 100 < int(capsys.readouterr().out) < 100_000
    assert (tmp_path / "out" / "results.csv.gz").is_file()


def test_rounding(script, monkeypatch):
    """Threads and batch sizes move maps and scores by no more than trust.md says; a second run is the same."""
    rounding = script("rounding")
    few = {"METHODS": ["sib", "gradcam"], "METRICS": ["foreground_focus", "average_precision"], "BATCH_SIZES": (1, 3)}
    for name, value in few.items():
        monkeypatch.setattr(rounding, name, value)
    try:
        alone, *others = [found for threads in (1, 2) for found in rounding.measure(threads, images=3, side=32)]
    finally:
        torch.set_num_threads(1)
    assert rounding.measure(1, images=3, side=32)[0].equals(alone)
    assert np.isfinite(alone.maps).all()
    for moved in (other.moved(alone) for other in others):
        assert moved["map"] < 1e-5
        assert moved["foreground_focus"] < 1e-5
        assert moved["average_precision"] < 1e-4  # two pixels may change places
    coarse = alone._replace(maps=alone.maps.round(4))
    assert coarse.moved(alone)["map"] > 1e-5
    assert not coarse.equals(alone)


class TestScaling:
    @pytest.fixture
    def scaling(self, script):
        return script("scaling")

    def test_model(self, scaling):
        links = dict.fromkeys(scaling.PASSES, scaling.Link(latency=1e-3, bandwidth=1e6))
        seconds = {o: scaling.Exchange("", o, 8000).seconds(4, links) for o in scaling.PASSES}
        # 3 passes of 2 kB, 6 of 2 kB, 2 of 8 kB
        assert seconds == pytest.approx({"all_gather": 0.009, "all_reduce": 0.018, "broadcast": 0.018})

    @pytest.mark.slow  # starting two interpreters takes several seconds
    def test_measured(self, scaling):
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


@pytest.mark.slow
def test_memory(script, tmp_path, capsys, monkeypatch):
    memory = script("memory")
    monkeypatch.setattr(memory, "TASKS", (memory.score,))
    memory.main(folder=tmp_path, pictures=(40, 80), side=16, large=4, workers=(1,))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    _, what, few, many, ratio, _ = (cell.strip() for cell in lines[2].split("|"))
    assert what == "Explain all pictures and score the maps"
    assert float(ratio) == pytest.approx(int(many.split()[0]) / int(few.split()[0]), abs=0.01)
    assert 0.8 < float(ratio) < 1.2
    assert len(lines) == 6
