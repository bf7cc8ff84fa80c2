"""Objects on scenes: which pictures are scenes, no picture on both sides of a split, and every split's agreement."""

import numpy as np
import pandas as pd
import pytest
import torch

from sibx.datasets import ObjectsOnScenesDataset, build_dataset
from sibx.datasets.on_scenes import find_scenes
from sibx.datasets.synthetic import SPLITS
from tests.helpers.trees import save

SIDE = 32
BREEDS = ("Abyssinian", "Beagle", "Chihuahua")
VALUES = {"void": 0, "building": 1, "grass": 2, "cow": 4, "sky": 7, "water": 10}
KINDS = ("grass", "water", "building")
BLUE = {"grass": 60, "water": 120, "building": 180}  # of the scenes, tells the kind


def save_pets(base):
    """Ten pets of each breed in both lists, gray, with a white boundary."""
    trimap = np.full((40, 60), 2, dtype=np.uint8)
    trimap[10:30, 20:40] = 3
    trimap[12:28, 22:38] = 1
    for part in ("trainval", "test"):
        lines = []
        for place, breed in enumerate(BREEDS):
            for number in range(10):
                name = f"{breed}_{part}{number}"
                pixels = np.full((40, 60, 3), 240, dtype=np.uint8)
                pixels[trimap == 1] = 100
                save(base / "images" / f"{name}.jpg", pixels)
                save(base / "annotations" / "trimaps" / f"{name}.png", trimap)
                lines.append(f"{name} {place + 1} 1 1\n")
        (base / "annotations" / f"{part}.txt").write_text("".join(lines))


def save_scene(base, name, mask, color):
    save(base / "Images" / f"{name}.jpg", np.full((*mask.shape, 3), color, dtype=np.uint8))
    save(base / "SegmentationClass" / f"{name}.png", mask)


def scene(**shares):
    """A mask of 40 x 60 whose central square has these shares of pixel classes, from the left; the rest is void."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    left = 10
    for kind, share in shares.items():
        mask[:, left : left + round(40 * share)] = VALUES[kind]
        left += round(40 * share)
    return mask


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Ten scenes of each kind in both lists, among pictures that are none."""
    root = tmp_path_factory.mktemp("pets-on-scenes")
    save_pets(root / "oxford-iiit-pet")
    base, rows = root / "msrc-v2", []
    for place, kind in enumerate(KINDS):
        for number in range(20):
            name = f"{place}_{number}_s"
            save_scene(base, name, scene(**{kind: 0.6, "sky": 0.3}), (200, 4 * number, BLUE[kind]))
            rows.append((name, "test" if number % 2 else "train"))
    others = {
        "cow": scene(grass=0.7, cow=0.1),
        "little": scene(grass=0.35, sky=0.5),
        "edge": np.where(np.arange(60) < 10, 2, 0) * np.ones((40, 1), dtype=np.int64),
        "both": scene(grass=0.4, water=0.5),
    }
    for name, mask in others.items():
        save_scene(base, name, mask.astype(np.uint8), (200, 80, BLUE["water"]))
        rows.append((name, "train"))
    pd.DataFrame(rows, columns=["image", "split"]).to_csv(base / "image_class_labels.csv", index=False)
    (base / "classes.txt").write_text("".join(f"{value} {name}\n" for name, value in VALUES.items()))
    return root


def names(pictures):
    return [path.stem for path in pictures]


class TestScenes:
    def test_which_pictures(self, tree):
        found = find_scenes(tree / "msrc-v2", "train", KINDS)
        assert names(found["grass"]) == [f"0_{n}_s" for n in (0, 2, 4, 6, 10, 12, 14, 16)]
        assert "both" in names(find_scenes(tree / "msrc-v2", "train", KINDS)["water"])
        assert {name for part in found.values() for name in names(part)}.isdisjoint({"cow", "little", "edge"})
        assert names(find_scenes(tree / "msrc-v2", "train", ("sky", "building"))["sky"]) == ["little"]

    def test_splits_share_no_picture(self, tree):
        parts = [find_scenes(tree / "msrc-v2", split, KINDS) for split in ("train", "val", "test")]
        pictures = [path for part in parts for paths in part.values() for path in paths]
        assert len(pictures) == len(set(pictures)) == 61


class TestSamples:
    @pytest.mark.parametrize(
        ("split", "agreement", "count"),
        [
            ("train", 0.9, 24 * 4),
            ("val", 1 / 3, 6 * 4),
            ("test-id", 0.9, 30),
            ("test-decorrelated", 1 / 3, 30),
            ("test-adversarial", 0, 30),
        ],
    )
    def test_agreement(self, tree, split, agreement, count):
        data = build_dataset("pets-on-scenes", str(tree), split, SIDE, agreement=0.9)
        assert len(data) == count
        assert (data.name, data.split, data.classes) == ("pets-on-scenes", split, BREEDS)
        many = build_dataset("pets-on-scenes", str(tree), split, SIDE, agreement=0.9, copies=20)
        assert len(many) == (count if split.startswith("test") else 5 * count)
        agree = np.mean([sample.group % 3 == sample.label for sample in many])
        assert agree == pytest.approx(agreement, abs=4 * (agreement * (1 - agreement) / len(many)) ** 0.5)

    def test_a_pet_without_its_boundary_on_a_scene_of_its_kind(self, tree):
        data = ObjectsOnScenesDataset("pets", str(tree), "train", SIDE, agreement=1.0, scale=[0.1, 0.3])
        for sample in data:
            pixels = data.normalization.inverse(sample.image) * 255
            assert sample.id.partition("@")[2].partition("-")[0] == KINDS[sample.label]
            assert (pixels[2][~sample.mask[0]] - BLUE[KINDS[sample.label]]).abs().median() < 5
            assert (pixels[:, sample.mask[0]] - 100).abs().median() < 8
            assert 0.09 < sample.mask.double().mean() < 0.33
            assert (pixels.amin(0) < 220).all()  # nothing of the white boundary

    def test_test_splits_differ_in_the_scene_alone(self, tree):
        parts = [ObjectsOnScenesDataset("pets", str(tree), split, SIDE) for split in SPLITS if split.startswith("test")]
        for samples in zip(*parts, strict=True):
            assert len({sample.id.partition("@")[0] for sample in samples}) == 1
            assert all(torch.equal(sample.mask, samples[0].mask) for sample in samples)
        assert not torch.equal(parts[0][0].image, parts[2][0].image)
        assert build_dataset("pets-on-scenes", str(tree), "test", SIDE).split == "test-id"

    def test_seed_and_kinds(self, tree):
        data = ObjectsOnScenesDataset("pets", str(tree), "test-id", SIDE, kinds=["water", "grass"], agreement=1.0)
        assert data.kinds == ("water", "grass")
        assert {sample.group for sample in data} == {0, 3, 4}
        other = ObjectsOnScenesDataset(
            "pets", str(tree), "test-id", SIDE, kinds=["water", "grass"], agreement=1.0, seed=1
        )
        assert not torch.equal(data[0].mask, other[0].mask)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"root": None}, "`root` must be a folder laid out as <root>/oxford-iiit-pet.*<root>/msrc-v2.* got None"),
            ({"root": "nowhere"}, "`root` must be a folder laid out as <root>/oxford-iiit-pet.*nowhere"),
            ({"split": "all"}, "`split` must be one of train, val, test-id, .*, but got 'all'"),
            ({"agreement": 1.5}, r"`agreement` must lie in \[0, 1\], but got 1.5"),
            ({"kinds": ["grass"]}, r"`kinds` must name at least two pixel classes, each once, but got \['grass'\]"),
            ({"kinds": ["grass", "gras"]}, "`kinds` must be one of void, .*got 'gras' .did you mean 'grass'"),
            ({"kinds": ["grass", "grass"]}, r"`kinds` must name at least two pixel classes, each once"),
            ({"kinds": ["grass", "cow"]}, "`backgrounds` must hold a picture of every kind, but got .*'cow'"),
            ({"scale": [0.1]}, r"`scale` must be a smallest and a largest share, but got \[0.1\]"),
            ({"scale": [0.3, 0.1]}, "`scale` must be two rising shares"),
            ({"copies": 0, "split": "train"}, "`copies` must be at least 1, but got 0"),
        ],
    )
    def test_arguments(self, tree, arguments, message):
        with pytest.raises(ValueError, match=message):
            ObjectsOnScenesDataset("pets", **{"root": str(tree), "image_size": SIDE, **arguments})

    @pytest.mark.parametrize("name", ["classes.txt", "Images/0_1_s.jpg", "SegmentationClass/2_3_s.png"])
    def test_missing_file(self, tree, name):
        path = tree / "msrc-v2" / name
        content = path.read_bytes()
        path.unlink()
        try:
            with pytest.raises(ValueError, match=f"`root` must hold {name}, laid out as <root>/msrc-v2/Images"):
                ObjectsOnScenesDataset("pets", str(tree), "test-id", SIDE)
        finally:
            path.write_bytes(content)

    def test_missing_pets(self, tree, tmp_path):
        (tmp_path / "msrc-v2").symlink_to(tree / "msrc-v2")
        with pytest.raises(ValueError, match="`root` must be a folder laid out as <root>/oxford-iiit-pet"):
            ObjectsOnScenesDataset("pets", str(tmp_path))


def test_other_objects(tree, tmp_path):
    """Objects of ETH-80: by number in one split only, and nothing of their plain background."""
    (tmp_path / "msrc-v2").symlink_to(tree / "msrc-v2")
    mask = np.zeros((30, 30), dtype=np.uint8)
    mask[8:20, 5:25] = 255
    for name in ("apple", "cow"):
        for number in range(1, 11):
            pixels = np.full((30, 30, 3), (0, 0, 255), dtype=np.uint8)
            pixels[mask > 0] = 100
            folder = tmp_path / "eth80" / name / str(number)
            save(folder / f"{name}{number}-000.png", pixels)
            save(folder / "maps" / f"{name}{number}-000-map.png", mask)
    data = {s: build_dataset("eth80-on-scenes", str(tmp_path), s, SIDE, copies=2) for s in ("train", "val", "test")}
    assert {split: len(part) for split, part in data.items()} == {"train": 24, "val": 4, "test": 6}
    assert {s.id.partition("-")[0] for s in data["val"]} == {"apple7", "cow7"}
    assert (data["train"].name, data["train"].classes) == ("eth80-on-scenes", ("apple", "cow"))
    for sample in data["train"]:
        pixels = data["train"].normalization.inverse(sample.image) * 255
        assert (pixels[:, sample.mask[0]] - 100).abs().median() < 8
        assert pixels[2].max() < 230
    with pytest.raises(ValueError, match="`objects` must be one of pets, eth80, but got 'cars'"):
        ObjectsOnScenesDataset("cars", str(tmp_path))
    with pytest.raises(ValueError, match=r"`root` must be a folder laid out as <root>/eth80/<category>/"):
        build_dataset("eth80-on-scenes", str(tmp_path / "nowhere"))


def test_real(shared_data, tmp_path):
    (tmp_path / "msrc-v2").symlink_to(shared_data / "msrc-v2")
    (tmp_path / "oxford-iiit-pet").symlink_to(shared_data / "oxford-iiit-pet-3" / "oxford-iiit-pet")
    data = build_dataset("pets-on-scenes", str(tmp_path), "val", 64)
    assert len(data) == 240
    scenes = {s: find_scenes(shared_data / "msrc-v2", s, KINDS) for s in ("train", "val", "test")}
    counts = {split: [len(found[kind]) for kind in KINDS] for split, found in scenes.items()}
    assert counts == {"train": [14, 13, 17], "val": [3, 3, 4], "test": [14, 7, 16]}
    assert data[7].mask.any()
