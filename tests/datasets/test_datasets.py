"""Datasets: exact masks, stable samples, joint geometry, errors that show the layout."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sibx.datasets import (
    DATASETS,
    InMemoryDataset,
    MSRCDataset,
    PetsDataset,
    SyntheticDataset,
    build_dataset,
    collate,
    spread,
)
from sibx.datasets.synthetic import DESIGNS, REACH, SPLITS, TEXTURES, load_textures, shape_radii
from sibx.images import IMAGENET, Normalization, augment
from sibx.metrics import foreground_focus


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


def test_tables_are_keyed_by_name():
    assert all(key == spec.name for key, spec in DATASETS.items())


class TestSynthetic:
    def test_sample_does_not_depend_on_size_or_order(self):
        few, many = SyntheticDataset("train", size=10), SyntheticDataset("train", size=1000)
        many[7]
        assert same(few[3], many[3])

    def test_seed_and_split_change_samples(self):
        base = SyntheticDataset("test-id", size=4)[1].image
        assert not torch.equal(base, SyntheticDataset("test-id", size=4, seed=1)[1].image)
        assert not torch.equal(base, SyntheticDataset("val", size=4)[1].image)

    @pytest.mark.parametrize("split", SPLITS)
    def test_shapes_and_dtypes(self, split):
        batch = collate([SyntheticDataset(split, 48, size=9)[i] for i in range(9)])
        assert batch.images.shape == (9, 3, 48, 48)
        assert batch.images.dtype == torch.float32
        assert batch.masks.shape == (9, 1, 48, 48)
        assert batch.masks.dtype == torch.bool
        assert batch.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
        pixels = SyntheticDataset.normalization.inverse(batch.images)
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6

    @pytest.mark.parametrize(("split", "rate"), [("train", 0.9), ("test-decorrelated", 1 / 8), ("test-adversarial", 0)])
    def test_background_agrees_at_the_stated_rate(self, split, rate):
        data = SyntheticDataset(split, 16, size=800)
        agrees = np.mean([data[i].group % 2 for i in range(800)])
        assert abs(agrees - rate) < 4 * np.sqrt(max(rate * (1 - rate), 1e-9) / 800) + 1e-9

    def test_rho_of_validation_can_be_set(self):
        data = SyntheticDataset("val", 16, size=50, rho=0.0)
        assert all(data[i].group % 2 == 0 for i in range(50))

    @pytest.mark.parametrize("design", DESIGNS)
    def test_designs(self, design):
        batch = collate([SyntheticDataset("val", 32, size=64, design=design)[i] for i in range(64)])
        plan = DESIGNS[design]
        low, high = (3.14 * r**2 for r in plan.radius)
        assert 0.5 * low < batch.masks.float().mean() < 1.1 * high  # the border cuts some objects
        # How far a pixel is from the image's mean finds the object, but not under the ramp.
        contrast = (batch.images - batch.images.mean((2, 3), keepdim=True)).abs().sum(1, keepdim=True)
        gain = foreground_focus(contrast, batch.masks).mean() / batch.masks.double().mean()
        assert (gain > 1.3) == (design != "ramp")

    def test_a_ramp_leaves_masks_alone(self):
        wide = dataclasses.replace(DESIGNS["ramp"], ramp=0.0)
        with_ramp = SyntheticDataset("val", 32, size=4, design="ramp")
        without = SyntheticDataset("val", 32, size=4, design="ramp")
        without.design = wide
        assert all(torch.equal(a.mask, b.mask) for a, b in zip(with_ramp, without, strict=True))
        raised = with_ramp[0].image - without[0].image
        assert raised.std() > 0.5

    def test_luminance_is_exchangeable(self):
        """Objects are as often brighter as darker, so brightness does not point at them."""
        data = SyntheticDataset("test-id", size=400)
        brighter = 0
        for i in range(400):
            sample = data[i]
            gray = sample.image.mean(0)
            brighter += int(gray[sample.mask[0]].mean() > gray[~sample.mask[0]].mean())
        assert 160 < brighter < 240

    def test_shapes_have_equal_area(self):
        for radius in shape_radii().values():
            assert np.mean(radius**2) == pytest.approx(1, rel=1e-5)
            assert radius.max() < REACH

    def test_mask_follows_the_shape(self):
        """Inside the mask the pixels are the object's: swapping the background texture leaves them alone."""
        own = SyntheticDataset("val", rho=1.0, size=8)
        other = SyntheticDataset("val", rho=0.0, size=8)
        for i in range(8):
            a, b = own[i], other[i]
            assert torch.equal(a.mask, b.mask)
            assert torch.allclose(a.image[:, a.mask[0]], b.image[:, b.mask[0]])
            assert not torch.allclose(a.image[:, ~a.mask[0]], b.image[:, ~b.mask[0]])

    def test_textures_cover_the_crops(self):
        for texture in load_textures(64):
            assert texture.shape[0] >= 64
            assert texture.shape[1] * 0.4 >= 64
        assert len(load_textures(64)) == len(TEXTURES) == len(shape_radii())

    def test_index_outside_raises(self):
        with pytest.raises(IndexError, match=r"index 5 is outside 0\.\.4 of synthetic/val"):
            SyntheticDataset("val", size=5)[5]


def save_image(path, value, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(path)


class TestPets:
    @pytest.fixture
    def tree(self, tmp_path):
        """A tree in the published layout: two breeds, ten images each list, trimaps of 1, 2, 3."""
        base = tmp_path / "oxford-iiit-pet"
        lists = {"trainval": [], "test": []}
        trimap = np.full((60, 40), 2, dtype=np.uint8)
        trimap[20:40, 10:30] = 1
        trimap[18:20, 10:30] = 3
        for part, lines in lists.items():
            for i in range(10):
                name = f"{'Abyssinian' if i < 5 else 'Bengal'}_{part}{i}"
                save_image(base / "images" / f"{name}.jpg", 20 * i, size=(60, 40))
                path = base / "annotations" / "trimaps" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(trimap).save(path)
                lines.append(f"{name} {1 + (i >= 5)} 1 {1 + i % 5}")
            (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
        return tmp_path

    def test_splits(self, tree):
        ids = {
            s: [x.id for x in map(PetsDataset(str(tree), s, 40).__getitem__, range(n))]
            for s, n in (("train", 8), ("val", 2), ("test", 10))
        }
        assert len(PetsDataset(str(tree), "train")) == 8
        assert not set(ids["train"]) & set(ids["val"])
        assert ids["val"] == ["Abyssinian_trainval4", "Bengal_trainval9"]

    @pytest.mark.parametrize(
        ("boundary", "rows", "undefined"), [("object", 22, 0), ("background", 20, 0), ("undefined", 20, 2)]
    )
    def test_boundary(self, tree, boundary, rows, undefined):
        sample = PetsDataset(str(tree), "test", 40, boundary=boundary)[0]
        assert int(sample.mask.sum()) == rows * 20
        assert int(sample.undefined.sum()) == undefined * 20

    def test_missing_lists(self, tmp_path):
        (tmp_path / "oxford-iiit-pet").mkdir()
        with pytest.raises(ValueError, match=r"`root` must be a folder laid out as .*trimaps"):
            PetsDataset(str(tmp_path))

    def test_download_is_torchvisions(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(
            "torchvision.datasets.oxford_iiit_pet.download_and_extract_archive",
            lambda url, download_root, md5: calls.append((url.rpartition("/")[2], len(md5))),
        )
        with pytest.raises(RuntimeError, match="Dataset not found"):
            PetsDataset(str(tmp_path / "new"), download=True)
        assert calls == [("images.tar.gz", 32), ("annotations.tar.gz", 32)]

    def test_real(self, shared_data):
        data = build_dataset("oxford-pets", str(shared_data / "oxford-iiit-pet-3"), "test", 96)
        assert len(data) == 298
        assert data.classes == ("Abyssinian", "American Bulldog", "Bengal")
        batch = collate([data[i] for i in spread(298, 6)])
        assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert 0.2 < batch.masks.double().mean() < 0.8


class TestMSRC:
    @pytest.fixture
    def tree(self, tmp_path):
        """A tree in the published layout: ten cows (4) and birds (16), five roads, void at the top."""
        rows = []
        for group, (label, value) in enumerate({"cow": 4, "bird": 16, "road": 19}.items(), start=5):
            for i in range(1, 11 if label != "road" else 6):
                name = f"{group}_{i}_s"
                save_image(tmp_path / "Images" / f"{name}.jpg", 20 * i)
                mask = np.full((40, 50), 2, dtype=np.uint8)
                mask[:5] = 0
                mask[10:30, 10:40] = value
                mask[32:36, 10:40] = 20 - value  # an object of the other class
                path = tmp_path / "SegmentationClass" / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(mask).save(path)
                split = "train" if i % 2 else "test"
                rows.append((name, group, label, 0.3, int(label != "road"), split))
        columns = ["image", "group", "class", "class_pixel_fraction", "single_object_subset", "split"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "image_class_labels.csv", index=False)
        (tmp_path / "classes.txt").write_text("0 void\n2 grass\n4 cow\n16 bird\n19 road\n")
        return tmp_path

    def test_splits(self, tree):
        data = {s: InMemoryDataset.load(MSRCDataset(str(tree), s, 40)) for s in ("train", "val", "test")}
        assert [x.id for x in data["train"].samples] == [f"{g}_{i}_s" for g in (5, 6) for i in (1, 3, 5, 7)]
        assert [x.id for x in data["val"].samples] == ["5_9_s", "6_9_s"]
        assert [x.id for x in data["test"].samples] == [f"{g}_{i}_s" for g in (5, 6) for i in (2, 4, 6, 8, 10)]

    def test_sample(self, tree):
        data = MSRCDataset(str(tree), "test", 40)
        assert data.classes == ("bird", "cow")
        for sample, label in ((data[0], "cow"), (data[9], "bird")):
            assert data.classes[sample.label] == label
            assert sample.group == -1
            assert sample.image.shape == (3, 40, 40)
            # The central square of 40 x 50 holds columns 5..44.
            expected = torch.zeros(2, 1, 40, 40, dtype=torch.bool)
            expected[0, :, 10:30, 5:35] = expected[1, :, :5] = True
            assert torch.equal(torch.stack([sample.mask, sample.undefined]), expected)

    def test_void_as_background(self, tree):
        own, other = (MSRCDataset(str(tree), "test", 40, void=v)[0] for v in ("undefined", "background"))
        assert torch.equal(own.mask, other.mask)
        assert other.undefined.dtype == torch.bool
        assert not other.undefined.any()

    @pytest.mark.parametrize(
        "name", ["image_class_labels.csv", "classes.txt", "Images/5_2_s.jpg", "SegmentationClass/6_4_s.png"]
    )
    def test_missing_file(self, tree, name):
        (tree / name).unlink()
        with pytest.raises(ValueError, match=rf"`root` must hold {name}, laid out as <root>/Images/\*\.jpg"):
            MSRCDataset(str(tree))

    def test_errors(self, tree):
        with pytest.raises(ValueError, match=r"`root` must be a folder laid out as <root>/Images.*nowhere'"):
            build_dataset("msrc-v2", str(tree / "nowhere"))
        with pytest.raises(ValueError, match="`split` must be one of train, val, test, but got 'all'"):
            MSRCDataset(str(tree), "all")
        with pytest.raises(ValueError, match="`void` must be one of undefined, background, but got 'object'"):
            MSRCDataset(str(tree), void="object")

    def test_real(self, shared_data):
        splits = {s: build_dataset("msrc-v2", str(shared_data / "msrc-v2"), s, 64) for s in ("train", "val", "test")}
        assert {s: len(data) for s, data in splits.items()} == {"train": 186, "val": 46, "test": 157}
        samples = [data[i] for data in splits.values() for i in range(len(data))]
        assert len({s.id for s in samples}) == 389
        for data in splits.values():
            assert len(data.classes) == 13
            assert {row.label for row in data.rows} == set(range(13))
        assert all(s.mask.any() and not (s.mask & s.undefined).any() for s in samples)


class TestTransforms:
    def test_normalization_inverts(self):
        pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)
        assert torch.allclose(IMAGENET.inverse(IMAGENET(pixels)), pixels)
        assert Normalization((0.5,), (0.25,))(torch.ones(1, 1, 1)).item() == 2

    @pytest.mark.parametrize("mode", ["none", "flip", "flip_crop"])
    def test_images_and_masks_move_together(self, mode):
        """An image that is its own mask stays its own mask."""
        masks = torch.zeros(16, 1, 32, 32, dtype=torch.bool)
        masks[:, :, 8:20, 4:12] = True
        images, (moved,) = augment(masks.float().expand(-1, 3, -1, -1), [masks], mode, torch.Generator().manual_seed(0))
        assert moved.dtype == torch.bool
        assert ((images[:, :1] > 0.5) == moved).double().mean() > 0.97
        assert torch.equal(moved, masks) == (mode == "none")

    def test_deterministic(self):
        images = torch.randn(8, 3, 16, 16)
        runs = [augment(images, [], "flip_crop", torch.Generator().manual_seed(3))[0] for _ in range(2)]
        assert torch.equal(*runs)


class TestInMemory:
    def test_subset_and_loader(self, shapes):
        few = InMemoryDataset.load(shapes, [5, 1])
        assert [s.id for s in few.samples] == [shapes[5].id, shapes[1].id]
        batch = next(iter(DataLoader(few, 2, collate_fn=collate))).to("cpu")
        assert len(batch) == 2
        assert few.labels.tolist() == batch.labels.tolist()

    def test_with_masks(self, shapes):
        masks = torch.zeros(len(shapes), 1, 32, 32, dtype=torch.bool)
        other = shapes.with_masks(masks)
        assert not other[3].mask.any()
        assert shapes[3].mask.any()
        with pytest.raises(ValueError, match="`masks` must be a bool tensor of shape"):
            shapes.with_masks(masks[:3])
        with pytest.raises(ValueError, match="`samples` must hold at least one image to have other masks, but got 0"):
            InMemoryDataset(shapes, []).with_masks(masks[:0])

    def test_with_masks_does_not_touch_the_images(self, shapes, monkeypatch):
        """A hundred thousand images of 3 x 512 x 512, all of them views of one number, would be 300 GB."""
        image, mask = torch.zeros(1).expand(3, 512, 512), torch.ones(1, dtype=torch.bool).expand(1, 512, 512)
        sample = shapes[0]._replace(image=image, mask=mask, undefined=mask)
        many = InMemoryDataset(shapes, [sample] * 100_000)
        monkeypatch.setattr(torch, "stack", None)
        other = many.with_masks(mask.expand(100_000, 1, 512, 512))
        assert other[99_999].image is image

    def test_one_image_shape(self, shapes):
        other = SyntheticDataset("test-id", 16, size=1)[0]
        with pytest.raises(ValueError, match="`samples` must all have one image shape"):
            InMemoryDataset(shapes, [shapes[0], other])

    def test_spread(self):
        assert spread(10, 3) == [0, 3, 6]
        assert spread(2, 5) == [0, 1]
