"""Broken pictures are found before a long run starts, and all of them are named at once."""

import numpy as np
import pytest
import torch
from PIL import Image

from sibx.cli import main
from sibx.datasets import FolderDataset, InMemoryDataset, SyntheticDataset
from sibx.datasets.broken import check_samples

LABELS = ("a", "b")


@pytest.fixture
def root(tmp_path):
    """A folder of 2 x 16 noisy pictures of 40 x 40 pixels with masks."""
    rng = np.random.default_rng(0)
    for label in LABELS:
        for kind in ("images", "masks"):
            (tmp_path / kind / label).mkdir(parents=True)
        for i in range(16):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"images/{label}/{i}.jpg")
            Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / f"masks/{label}/{i}.png")
    return tmp_path


def cut(path, share=0.6):
    """As a download that ended early: the header is whole, the picture is not."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def test_headers_are_looked_at_first(root):
    for i in range(12):
        (root / f"images/a/{i}.jpg").write_bytes(b"no picture" if i % 2 else b"")
    with pytest.raises(OSError, match=r"can be read, but got 12 of 64 that do not: .*images/a/0\.jpg") as caught:
        FolderDataset(str(root), "all", 16)
    assert str(caught.value).count("(no picture)") == 10
    assert str(caught.value).endswith("; and 2 more.")


def test_sizes_are_compared_first(root):
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (40, 60)).save(root / "images/a/0.jpg", exif=turned)  # upright, 60 x 40
    Image.new("L", (60, 40), 255).save(root / "masks/a/0.png")
    FolderDataset(str(root), "all", 16)
    for i in (1, 2):
        Image.new("L", (41, 40)).save(root / f"masks/b/{i}.png")
    with pytest.raises(ValueError, match=r"got 2 of 64 .*: masks/b/1\.png with \(40, 41\) for \(40, 40\); masks"):
        FolderDataset(str(root), "all", 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_all_samples_are_read_if_asked_for(root, workers):
    data = FolderDataset(str(root), "all", 16)
    check_samples(data, workers)
    for i in range(11):
        cut(root / f"images/b/{i}.jpg")
    data = FolderDataset(str(root), "all", 16)  # their headers are good
    with pytest.raises(ValueError, match=r"`dataset` must .* got 11 of 32 .*and 1 more \(split all\)") as e:
        check_samples(data, workers)
    assert str(e.value).count("cannot be read") == 10


def test_values_that_are_not_finite_are_found():
    shapes = SyntheticDataset("val", 16, size=3)
    bad = [s._replace(image=torch.full_like(s.image, float("nan"))) if i == 1 else s for i, s in enumerate(shapes)]
    with pytest.raises(ValueError, match=r"1 of 3 that do not: val-0-000001 with values that are not finite"):
        check_samples(InMemoryDataset(shapes, bad))


def test_commands_check_before_they_run(root, tmp_path, capsys):
    cut(root / "images/a/3.jpg")
    data = ["--dataset", "folder", "--root", str(root), "--image-size", "16"]
    out = tmp_path / "out"
    small = ["--model", "tiny_cnn", "--epochs", "1", "--batch-size", "4", "--training", "ce", "--out", str(out)]
    study = ["--model", "tiny_cnn", "--trainings=[ce]", "--epochs", "1", "--out", str(out), "--processes=1"]
    for command, words in (("finetune", small), ("study", study)):
        assert main([command, *data, *words, "--check"]) == 2
        assert "images/a/3.jpg cannot be read" in capsys.readouterr().err
        assert not out.exists()
