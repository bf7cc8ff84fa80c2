"""Maps of the same images after every epoch."""

import cv2
import numpy as np
import pytest
import torch

from sibx import TrainConfig, fine_tune
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.report import DrawMaps


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=16))


def test_the_same_images_are_drawn_after_every_epoch(data, tmp_path):
    torch.manual_seed(0)
    model, settings = TinyCNN(8, width=8), TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2)
    draw = DrawMaps(data, tmp_path / "maps", images=2)
    watched = fine_tune(model, data, config=settings, callbacks=[draw], progress=False)
    names = [f"epoch-00{i}.png" for i in range(3)]
    assert [p.name for p in sorted((tmp_path / "maps").iterdir())] == names
    start, _, end = (cv2.imread(str(tmp_path / "maps" / name)) for name in names)
    assert start.shape == end.shape
    assert not np.array_equal(start, end)
    again = DrawMaps(data, tmp_path / "again", images=2)
    again._draw(watched.model, 2)
    assert np.array_equal(cv2.imread(str(tmp_path / "again" / "epoch-002.png")), end)
    again.on_start(model, 1)  # goes on after an interruption
    assert len(list((tmp_path / "again").iterdir())) == 1


def test_several_labels_are_explained_by_what_is_predicted(data, tmp_path):
    rows = torch.eye(8)
    several = InMemoryDataset(data, [s._replace(label=rows[s.label]) for s in data.samples])
    DrawMaps(several, tmp_path, images=3, methods=["gradcam"], output="sigmoid").on_start(TinyCNN(8, width=8).eval(), 0)
    assert (tmp_path / "epoch-000.png").is_file()


def test_errors(data, tmp_path):
    with pytest.raises(ValueError, match="`images` must be at least 1, but got 0"):
        DrawMaps(data, tmp_path, images=0)
    with pytest.raises(ValueError, match=r"`methods` must be one of .* but got 'grad' "):
        DrawMaps(data, tmp_path, methods=["grad"])
