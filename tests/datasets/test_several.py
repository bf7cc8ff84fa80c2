"""Several labels per image: how samples, batches and data sets hold them, and how VOC and COCO make them."""

import numpy as np
import pytest
import torch
from PIL import Image

from sibx.datasets import InMemoryDataset, OnePerClass, SeveralLabels, build_dataset, collate, one_per_class
from sibx.datasets.voc import FOLDER
from tests.helpers.several import LABELS, Several, corners, several

SIDE = 32


def test_a_batch_has_one_mask_per_image_and_class():
    data = several()
    batch = collate(data.samples)
    assert batch.images.shape == (6, 3, SIDE, SIDE)
    torch.testing.assert_close(batch.labels, torch.tensor(LABELS), equal_nan=True)
    rows, classes = (batch.labels == 1).nonzero(as_tuple=True)
    assert rows.tolist() == [0, 0, 1, 3, 3, 3, 4, 5, 5]
    assert torch.equal(batch.masks, corners()[classes].unsqueeze(1))
    assert batch.undefined.shape == batch.masks.shape
    torch.testing.assert_close(data.labels, batch.labels, equal_nan=True)


def test_one_sample_per_class():
    """In the order of images and classes; what is not there, or unknown, has no sample."""
    data = OnePerClass(several())
    assert [(s.id, s.label) for s in data] == [
        *(("image-0/a", 0), ("image-0/c", 2), ("image-1/b", 1), ("image-3/b", 1), ("image-3/c", 2), ("image-3/d", 3)),
        *(("image-4/a", 0), ("image-5/b", 1), ("image-5/d", 3)),
    ]
    for index, sample in enumerate(data):
        assert torch.equal(sample.mask, corners()[sample.label][None])
        assert data.label_of(index) == sample.label
    assert not data.several_labels
    assert one_per_class(data) is data
    with pytest.raises(ValueError, match="`source` must have several labels per image"):
        OnePerClass(data)


def test_other_masks():
    """One for each image and class present."""
    data = several()
    masks = torch.rand(9, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) > 0.5
    changed = data.with_masks(masks)
    assert torch.equal(collate(changed.samples).masks, masks)
    assert changed.several_labels
    with pytest.raises(ValueError, match=r"`masks` must be a bool tensor of shape \(9, 1, 32, 32\)"):
        data.with_masks(masks[:6])


class TestVOC:
    @pytest.fixture
    def tree(self, tmp_path):
        """Six photographs of 40 x 20 pixels, all but the fifth to train on, of three classes, of one, and of none."""
        folder = tmp_path / FOLDER
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True)
        names = [f"2007_{i:06d}" for i in range(6)]
        for i, name in enumerate(names):
            Image.fromarray(np.full((20, 40, 3), 40 * i, dtype=np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
            values = np.zeros((20, 40), dtype=np.uint8)
            if i % 3 == 0:
                values[:10, 12:20], values[15:, 22:28], values[0, 29] = 3, 15, 1  # a bird, a person, a pixel of a plane
            elif i % 3 == 1:
                values[:, :8] = 8  # a cat that the square cuts off
            else:
                values[5:15, 15:25] = 8
            palette = Image.fromarray(values, mode="P")
            palette.putpalette([0] * 768)
            palette.save(folder / "SegmentationClass" / f"{name}.png")
        for part in ("train", "val"):
            (folder / "ImageSets/Segmentation" / f"{part}.txt").write_text("\n".join(names))
        return str(tmp_path)

    def test_photographs(self, tree):
        rows = build_dataset("voc2012", tree, "test", 20)
        data = build_dataset("voc2012", tree, "test", 20, several_labels=True)
        assert isinstance(data, SeveralLabels)
        assert [sorted((s.label == 1).nonzero().flatten().tolist()) for s in data] == [[0, 2, 14], [], [7]] * 2
        assert not any(s.label.isnan().any() for s in data)
        again = OnePerClass(data)
        assert [s.label for s in again] == [s.label for s in rows]
        for one, other in zip(again, rows, strict=True):
            assert torch.equal(one.mask, other.mask)
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.undefined, other.undefined)

    def test_what_is_too_small_is_unknown(self, tree):
        data = build_dataset("voc2012", tree, "train", 20, several_labels=True, min_area=0.01)
        assert len(data) == 5
        assert data[0].label[[0, 2, 14]].tolist() == pytest.approx([np.nan, 1, 1], nan_ok=True)
        assert data[0].mask.shape == (2, 20, 20)
        assert data[1].mask.shape == (0, 20, 20)
        kept = InMemoryDataset.load(data)
        assert kept.several_labels
        torch.testing.assert_close(kept.labels[0], data.label_of(0), equal_nan=True)


def test_errors():
    with pytest.raises(ValueError, match="`source` must have one label per row"):
        SeveralLabels(Several())
