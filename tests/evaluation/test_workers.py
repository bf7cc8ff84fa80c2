"""Processes that read the images change no result."""

import os

import pytest
import torch

from sibx import SIBConfig, build_model, evaluate, evaluate_reliance, evaluate_robustness, self_masks
from sibx.cli import main
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.datasets.batches import load_batches
from sibx.models.checkpoint import save_checkpoint

COUNTS = (0, 1, 2)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # of more workers than processors


@pytest.fixture(scope="module")
def shapes():
    return SyntheticDataset("val", 32, size=10)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("tiny_cnn", 8)


class Readers(InMemoryDataset):
    """Samples whose names say which process read them."""

    def __getitem__(self, index):
        return self.samples[index]._replace(id=str(os.getpid()))


@pytest.mark.parametrize("batches", [2, [[5, 4], [3, 2], [1, 0]]])
def test_who_reads(shapes, batches):
    data = Readers(shapes, [shapes[i] for i in range(6)])
    order = [5, 4, 3, 2, 1, 0] if isinstance(batches, list) else range(6)
    for count in COUNTS:
        loaded = list(load_batches(data, batches, count))
        assert torch.equal(torch.cat([b.images for b in loaded]), torch.stack([shapes[i].image for i in order]))
        readers = {name for b in loaded for name in b.ids}
        assert len(readers) == max(1, count)
        assert (str(os.getpid()) in readers) == (count == 0)


def test_evaluate(model, shapes, tmp_path):
    """The tables are the same bytes, and what was begun with one number of workers goes on with another."""
    options = {"methods": ["sib", "control_random"], "metrics": ["iou", "deletion"], "batch_size": 4, "progress": False}
    for count in COUNTS:
        evaluate(model, shapes, out_dir=tmp_path / str(count), workers=count, **options)
    for name in ("results.csv.gz", "curves.csv.gz"):
        assert len({(tmp_path / str(count) / name).read_bytes() for count in COUNTS}) == 1
    again = evaluate(model, shapes, out_dir=tmp_path / "0", workers=2, resume=True, **options)
    assert len(again.rows) == 40


@pytest.mark.parametrize(
    ("score", "options"),
    [
        (evaluate_reliance, {"backgrounds": ["only_fg", "mixed_rand"]}),
        (evaluate_robustness, {"attacks": ["pgd"], "steps": 2, "corruptions": ["gaussian_noise"], "severities": [3]}),
    ],
)
def test_classifiers(model, shapes, tmp_path, score, options):
    for count in COUNTS:
        score(model, shapes, batch_size=4, workers=count, progress=False, **options).save(tmp_path / str(count))
    assert len({(tmp_path / str(count) / "results.csv.gz").read_bytes() for count in COUNTS}) == 1


def test_self_masks(model, shapes):
    options = {"config": SIBConfig.recommended("self"), "batch_size": 4, "progress": False}
    masks = [self_masks(model, shapes, workers=count, **options) for count in COUNTS]
    assert all(torch.equal(masks[0], other) for other in masks)


@pytest.mark.parametrize(("workers", "rule"), [(-1, "be at least 0"), (1.5, "be a whole number"), (True, "be a whole")])
def test_errors(model, shapes, workers, rule):
    for call in (
        lambda: evaluate(model, shapes, methods=["sib"], metrics=["iou"], workers=workers),
        lambda: evaluate_reliance(model, shapes, workers=workers),
        lambda: evaluate_robustness(model, shapes, workers=workers),
        lambda: self_masks(model, shapes, config=SIBConfig.recommended("self"), workers=workers),
    ):
        with pytest.raises(ValueError, match=f"`workers` must {rule}"):
            call()


@pytest.mark.parametrize("command", ["evaluate", "reliance", "robustness"])
def test_command_line(model, shapes, tmp_path, command, capsys):
    save_checkpoint(tmp_path / "model.pt", model, classes=shapes.classes)
    words = [command, "--model", "tiny_cnn", "--checkpoint", str(tmp_path / "model.pt")]
    words += ["--dataset", "synthetic", "--limit", "4", "--image-size", "32", "--device", "cpu"]
    words += {"evaluate": [], "reliance": ["--backgrounds", "only_fg"], "robustness": ["--attacks", "fgsm"]}[command]
    words += ["--corruptions", "--severities", "1"] if command == "robustness" else []
    for count in ("0", "1"):
        assert main([*words, "--workers", count, "--out", str(tmp_path / count)]) == 0
    assert len({(tmp_path / count / "results.csv.gz").read_bytes() for count in "01"}) == 1
    assert main([*words, "--workers", "-1", "--out", str(tmp_path / "no")]) == 2
    assert "`workers` must be at least 0" in capsys.readouterr().err
