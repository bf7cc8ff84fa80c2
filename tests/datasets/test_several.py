"""Several labels per image: how samples, batches and data sets hold them, and how VOC and COCO make them."""

from pathlib import Path

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


class TestCOCOPanoptic:
    @pytest.fixture
    def tree(self, tmp_path):
        """Ten photographs of 30 x 20 pixels: sky in all, a cup in every other one, a dog in one, a pixel of a boat."""
        for kind in ("images", "masks"):
            (tmp_path / kind / "part").mkdir(parents=True)
        names = {1: "person", 9: "boat", 18: "dog", 47: "cup", 187: "sky-other-merged"}
        lines = ["classes:", "  0: unlabeled", *(f"  {value}: {name}" for value, name in names.items())]
        (tmp_path / "config.yaml").write_text("\n".join(lines))
        for i in range(10):
            values = np.zeros((20, 30), dtype=np.uint8)
            values[:5, 5:25] = 187
            values[10:15, 10:15] = 47 * (i % 2)
            values[16, 8:20] = 18 * (i == 0)
            values[19, 5] = 9
            values[:, :5] = 1  # a person that the square cuts off
            Image.fromarray(np.full((20, 30, 3), 20 * i, dtype=np.uint8)).save(tmp_path / f"images/part/{i:02d}.jpg")
            Image.fromarray(values).save(tmp_path / f"masks/part/{i:02d}.png")
        return str(tmp_path)

    def test_classes_and_splits(self, tree):
        data = {s: build_dataset("coco-panoptic", tree, s, 20, least=5) for s in ("train", "val", "test")}
        assert data["test"].classes == ("boat", "cup", "sky-other-merged")
        images = {s: sorted({row.image[-6:-4] for row in part.rows}) for s, part in data.items()}
        assert images == {"train": ["00", "01", "02", "04", "06", "08", "09"], "val": ["05"], "test": ["03", "07"]}
        assert [row.label for row in data["test"].rows] == [0, 1, 2] * 2
        assert build_dataset("coco-panoptic", tree, "train", 20, least=1).classes[1] == "dog"

    def test_masks(self, tree):
        data = build_dataset("coco-panoptic", tree, "test", 20, several_labels=True, least=5, min_area=0.01)
        assert data.classes == ("cup", "sky-other-merged")
        cup, sky = torch.zeros(2, 20, 20, dtype=torch.bool)
        cup[10:15, 5:10], sky[:5] = True, True
        assert torch.equal(data[0].mask, torch.stack([cup, sky]))
        assert data[0].label.tolist() == [1, 1]
        assert not (data[0].undefined & data[0].mask).any()
        assert data[0].undefined[0, 7, 7]

    def test_errors(self, tree):
        with pytest.raises(ValueError, match="`least` must be at least 1"):
            build_dataset("coco-panoptic", tree, least=0)
        names = Path(tree) / "config.yaml"
        names.write_text("classes:")
        with pytest.raises(ValueError, match=r"`root` must hold a config\.yaml with lines of class index: name"):
            build_dataset("coco-panoptic", tree)
        names.unlink()
        with pytest.raises(ValueError, match=r"`root` must hold config\.yaml, laid out as <root>/config.yaml"):
            build_dataset("coco-panoptic", tree)

    def test_real(self, shared_data):
        data = build_dataset("coco-panoptic", str(shared_data / "coco128-semseg"), "train", 64, several_labels=True)
        assert len(data) == 60
        assert data.classes[0] == "person"
        assert len(data.classes) > 10
        labels = torch.stack([data.label_of(i) for i in range(60)])
        assert labels.nansum(1).mean() > 2


def test_errors():
    with pytest.raises(ValueError, match="`source` must have one label per row"):
        SeveralLabels(Several())
