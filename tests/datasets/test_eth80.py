"""ETH-80: masks beside their views, and no object in two splits."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sibx.datasets import ETH80Dataset, build_dataset, spread

SIDE = 16
SPLITS = ("train", "val", "test")


@pytest.fixture
def tree(tmp_path):
    """Two categories, ten objects each, two views of an object; the mask is as wide as the object's number."""
    for category in ("apple", "cow"):
        for number in range(1, 11):
            folder = tmp_path / category / str(number)
            (folder / "maps").mkdir(parents=True)
            for view in ("000-000", "090-045"):
                mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
                mask[:, :number] = 255
                name = f"{category}{number}-{view}"
                Image.fromarray(mask).save(folder / "maps" / f"{name}-map.png")
                Image.fromarray(np.repeat(mask[..., None], 3, 2)).save(folder / f"{name}.png")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_objects_are_in_one_split(tree):
    data = {split: build_dataset("eth80", str(tree), split, SIDE) for split in SPLITS}
    assert {split: len(part) for split, part in data.items()} == {"train": 24, "val": 4, "test": 12}
    objects = {split: {row.image.rsplit("/", 1)[0] for row in part.rows} for split, part in data.items()}
    assert len(set().union(*objects.values())) == 20 == sum(map(len, objects.values()))
    assert objects["val"] == {"apple/7", "cow/7"}
    assert data["test"].classes == ("apple", "cow")
    assert [row.label for row in data["test"].rows] == [0] * 6 + [1] * 6


def test_a_view_and_its_mask(tree):
    data = ETH80Dataset(str(tree), "val", SIDE)
    sample = data[3]
    assert sample.id == "cow7-090-045"
    expected = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    expected[..., :7] = True
    assert torch.equal(sample.mask, expected)
    assert not sample.undefined.any()
    assert torch.equal(data.normalization.inverse(sample.image).mean(0, keepdim=True) > 0.5, expected)


def test_errors(tree):
    with pytest.raises(ValueError, match="`split` must be one of train, val, test, but got 'all'"):
        ETH80Dataset(str(tree), "all")
    with pytest.raises(ValueError, match=r"<category>/<1 to 10>/<name>\.png"):
        ETH80Dataset(str(tree / "apple"))
    (tree / "cow" / "7" / "maps" / "cow7-000-000-map.png").unlink()
    with pytest.raises(ValueError, match=r"cow7-000-000-map\.png"):
        ETH80Dataset(str(tree), "val")


def test_real(shared_data):
    root = shared_data / "eth80"
    known = pd.read_csv(root / "split.csv").set_index("image")
    for split in SPLITS:
        data = build_dataset("eth80", str(root), split)
        assert {row.image for row in data.rows} == set(known.index[known["split"] == split])
        for i in spread(len(data), 12):
            assert data[i].mask.double().mean().item() == pytest.approx(
                known.loc[data.rows[i].image, "mask_fraction"], abs=0.003
            )
