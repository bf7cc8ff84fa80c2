"""A training that cannot go on stops, says why, and leaves its last good checkpoint."""

import math

import pytest
import torch

from sibx import TrainConfig, build_dataset, build_model, fine_tune
from sibx.cli import main
from sibx.datasets import InMemoryDataset

SGD = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "batch_norm": "train", "schedule": "constant"}


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(build_dataset("synthetic", split="train", image_size=32), range(32))


def test_a_loss_that_is_no_number_ends_the_training(data, tmp_path):
    torch.manual_seed(0)
    model = build_model("tiny_cnn", 8)
    config = TrainConfig(learning_rate=1e30, checkpoint_every=1, **SGD)
    with pytest.raises(FloatingPointError, match=r"diverged: the loss is (nan|inf) in epoch \d, step \d\. A smaller"):
        fine_tune(model, data, config=config, out_dir=tmp_path, progress=False)
    assert not (tmp_path / "model.pt").exists()
    assert all(p.isfinite().all() for p in model.parameters())  # the caller's model is untouched
    for file in tmp_path.glob("checkpoint-*.pt"):
        sums = [own["meter"]["sums"] for own in torch.load(file)["state"]["ranks"]]
        assert all(math.isfinite(s["total"]) for s in sums if s)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_images_that_are_not_finite_are_named(data, value):
    samples = [s._replace(image=s.image * value, id="broken") if i == 5 else s for i, s in enumerate(data.samples)]
    with pytest.raises(ValueError, match=r"`train_data` must hold finite images, but got \['broken'\]"):
        fine_tune(build_model("tiny_cnn", 8), InMemoryDataset(data, samples), config=TrainConfig(**SGD), progress=False)


def test_the_command_fails(tmp_path, capsys):
    words = "finetune --dataset synthetic --model tiny_cnn --limit 64 --image-size 32 --training ce --epochs 2"
    rate = ["--optimizer", "sgd", "--learning-rate", "1e30", "--batch-size", "16", "--out", str(tmp_path / "run")]
    assert main([*words.split(), *rate]) == 2
    assert "sibx: error: training diverged" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.pt").exists()
