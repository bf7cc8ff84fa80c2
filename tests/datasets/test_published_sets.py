"""Published data sets: small trees in their exact layouts, read pixel by pixel, and the real data where it is."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from sibx.datasets import (
    DATASETS,
    CUBDataset,
    ImageNetSDataset,
    MagneticTileDataset,
    StanfordDogsDataset,
    WaterbirdsDataset,
    build_dataset,
    spread,
)
from tests.helpers.trees import HEIGHT, SIDE, WIDTH, gray, same_errors, save, save_picture, shown


@pytest.mark.parametrize("name", DATASETS)
def test_table_says_where_data_comes_from(name):
    spec = DATASETS[name]
    assert all((spec.title, spec.masks, spec.reference, spec.licence))
    if name != "synthetic":
        with pytest.raises(ValueError, match=r"`root` must be a folder laid out as .*<root>/.* but got None"):
            build_dataset(name, None)


# CUB-200-2011

SPECIES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Red_winged_Blackbird"]
levels = np.tile(np.repeat(np.arange(6, dtype=np.uint8), 4) * 51, (HEIGHT, 1))  # 0..5 annotators, from left to right


def bird(species, number):
    return f"{species}/{species[4:]}_{number:04d}_7961{number}.jpg"


@pytest.fixture
def cub(tmp_path):
    """Three species with eight images each: five to train on, three to test on."""
    base = tmp_path / "CUB_200_2011"
    images = [bird(species, number) for species in SPECIES for number in range(1, 9)]
    for place, image in enumerate(images):
        save_picture(base / "images" / image, 10 * place)
        save(tmp_path / "segmentations" / image.replace(".jpg", ".png"), levels)
    tables = {
        "images": images,
        "image_class_labels": [1 + place // 8 for place in range(24)],
        "train_test_split": [int(place % 8 < 5) for place in range(24)],
        "classes": SPECIES,
    }
    for name, values in tables.items():
        lines = [f"{number} {value}\n" for number, value in enumerate(values, start=1)]
        (base / f"{name}.txt").write_text("".join(lines))
    return tmp_path


class TestCUB:
    def test_splits_and_labels(self, cub):
        data = {split: build_dataset("cub200", str(cub), split, SIDE) for split in ("train", "val", "test")}
        assert {split: len(part) for split, part in data.items()} == {"train": 12, "val": 3, "test": 9}
        assert [row.label for row in data["val"].rows] == [0, 1, 2]
        assert data["val"][1].id == "Laysan_Albatross_0005_79615"
        assert gray(data["val"], 1) == 10 * 12
        assert len({row.id for part in data.values() for row in part.rows}) == 24
        assert data["test"].classes == ("Black footed Albatross", "Laysan Albatross", "Red winged Blackbird")

    @pytest.mark.parametrize("agreement", [1, 3, 5])
    def test_masks(self, cub, agreement):
        sample = CUBDataset(str(cub), "test", SIDE, agreement=agreement)[0]
        assert torch.equal(sample.mask, shown(levels >= 51 * agreement))
        assert not sample.undefined.any()
        assert sample.group == -1

    def test_masks_among_the_images_and_with_alpha(self, cub):
        """A picture with transparency keeps its gray levels, and the archive may lie inside the other one's folder."""
        (cub / "segmentations").rename(cub / "CUB_200_2011" / "segmentations")
        path = cub / "CUB_200_2011" / "segmentations" / bird(SPECIES[0], 6).replace(".jpg", ".png")
        save(path, np.stack([levels] * 3 + [255 - levels], axis=2))
        assert torch.equal(CUBDataset(str(cub), "test", SIDE)[0].mask, shown(levels >= 153))

    def test_errors(self, cub):
        mask = f"segmentations/{bird(SPECIES[1], 7)}".replace(".jpg", ".png")
        files = ["CUB_200_2011/classes.txt", f"CUB_200_2011/images/{bird(SPECIES[2], 8)}", mask]
        same_errors(CUBDataset, cub, files, "<root>/CUB_200_2011/.*segmentations.tgz.*https://www.vision.caltech.edu")
        with pytest.raises(ValueError, match=r"`agreement` must lie in \[1, 5\], but got 6"):
            CUBDataset(str(cub), agreement=6)
        save(cub / mask, levels[:, :20])
        with pytest.raises(ValueError, match=r"masks of their image's size \(20, 24\), but got '.*0007_79617.png"):
            CUBDataset(str(cub))[4]
        table = cub / "CUB_200_2011" / "image_class_labels.txt"
        for lines in (table.read_text().replace("24 3\n", ""), table.read_text().replace("24 3\n", "24 4\n")):
            table.write_text(lines)
            with pytest.raises(ValueError, match=r"the same images in .*, but got 'differences at the ids \[24\]"):
                CUBDataset(str(cub))


class TestWaterbirds:
    @pytest.fixture
    def tree(self, cub):
        """Twelve birds of the CUB tree: the split takes turns, the place changes after three, the label after six."""
        base = cub / "waterbird_complete95_forest2water2"
        rows = []
        for number in range(12):
            image = bird(SPECIES[number // 6], 1 + number % 6)
            save_picture(base / image, 20 * number)
            place = f"/l/lake/natural/{number:08d}.jpg"
            rows.append((number + 1, image, number // 6, number % 3, number // 3 % 2, place))
        columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
        pd.DataFrame(rows, columns=columns).to_csv(base / "metadata.csv", index=False)
        return cub

    def test_splits_groups_and_masks(self, tree):
        data = {split: build_dataset("waterbirds", str(tree), split, SIDE) for split in ("train", "val", "test")}
        for turn, part in enumerate(data.values()):
            assert [row.group for row in part.rows] == [0, 1, 2, 3]
            assert [part[i].label for i in range(4)] == [0, 0, 1, 1]
            assert [gray(part, i) for i in range(4)] == [20 * (turn + 3 * i) for i in range(4)]
            assert part.classes == ("landbird", "waterbird")
        sample = data["train"][3]
        assert sample.id == bird(SPECIES[1], 4).removesuffix(".jpg")
        assert torch.equal(sample.mask, shown(levels >= 153))
        assert torch.equal(WaterbirdsDataset(str(tree), "val", SIDE, agreement=5)[0].mask, shown(levels == 255))

    def test_errors(self, tree):
        folder, image = "waterbird_complete95_forest2water2", bird(SPECIES[0], 3)
        mask = f"segmentations/{image}".replace(".jpg", ".png")
        layout = f"<root>/{folder}/.*https://nlp.stanford.edu/data/dro"
        same_errors(WaterbirdsDataset, tree, [f"{folder}/metadata.csv", f"{folder}/{image}", mask], layout)
        with pytest.raises(ValueError, match=r"`agreement` must lie in \[1, 5\], but got 0"):
            WaterbirdsDataset(str(tree), agreement=0)
        table = pd.read_csv(tree / folder / "metadata.csv")
        table[table["split"] == 0].to_csv(tree / folder / "metadata.csv", index=False)
        with pytest.raises(ValueError, match="must hold images of the split 'val', laid out as"):
            WaterbirdsDataset(str(tree), "val")
        table.drop(columns=["place", "y"]).to_csv(tree / folder / "metadata.csv", index=False)
        with pytest.raises(ValueError, match=r"a metadata.csv with the columns \['y', 'place'\], but got \['img_id'"):
            WaterbirdsDataset(str(tree))


# Magnetic tiles


class TestMagneticTile:
    @pytest.fixture
    def tree(self, tmp_path):
        """Three classes of ten tiles, twice as high as wide, with a defect at the bottom, and other files."""
        for place, name in enumerate(["Blowhole", "Crack", "Free"]):
            for number in range(10):
                path = tmp_path / f"MT_{name}" / "Imgs" / f"exp1_num_{number}{place}.jpg"
                save(path.parent / path.name, np.full((40, 20), 80 * place + 8 * number, dtype=np.uint8))
                save(path.with_suffix(".png"), self.mask(name))
        (tmp_path / "MT_Free" / "dataset.txt").write_text("not a picture")
        (tmp_path / "MT_notes.txt").write_text("not a folder")
        return tmp_path

    def mask(self, name):
        mask = np.zeros((40, 20), dtype=np.uint8)
        if name != "Free":
            mask[36:40, 5:7] = 255
            mask[36, 4] = 127
        return mask

    def test_splits(self, tree):
        data = {split: build_dataset("magnetic-tile", str(tree), split, SIDE) for split in ("train", "val", "test")}
        ids = {split: [row.id for row in part.rows] for split, part in data.items()}
        assert ids["test"] == [f"exp1_num_{number}{place}" for place in range(3) for number in (3, 7)]
        assert ids["val"] == [f"exp1_num_{name}" for name in ("50", "11", "81", "42")]
        assert len(set().union(*ids.values())) == 30
        assert data["test"].classes == ("Blowhole", "Crack", "Free")
        assert [row.label for row in data["test"].rows] == [0, 0, 1, 1, 2, 2]
        assert gray(data["test"], 3) == 80 + 8 * 7

    def test_binary(self, tree):
        """The same tiles in the same splits; every kind of defect is class 1, in a folder of one kind too."""
        for split in ("train", "test"):
            kinds, binary = MagneticTileDataset(str(tree), split), MagneticTileDataset(str(tree), split, binary=True)
            assert binary.classes == ("Free", "Defect")
            assert [row.id for row in binary.rows] == [row.id for row in kinds.rows]
            assert [row.label for row in binary.rows] == [int(kinds.classes[r.label] != "Free") for r in kinds.rows]
        shutil.rmtree(tree / "MT_Free")
        assert {row.label for row in MagneticTileDataset(str(tree), "test", binary=True).rows} == {1}

    def test_nothing_is_cut_off(self, tree):
        data = MagneticTileDataset(str(tree), "test", SIDE)
        expected = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        expected[:, 18:, 5:7] = True
        assert torch.equal(data[0].mask, expected)
        assert data[0].image.shape == (3, SIDE, SIDE)
        assert not data[4].mask.any()
        assert not any(data[i].undefined.any() for i in range(6))

    def test_masks_of_one_bit(self, tree):
        path = tree / "MT_Blowhole" / "Imgs" / "exp1_num_30.png"
        before = MagneticTileDataset(str(tree), "test", SIDE)[0].mask
        Image.open(path).convert("1", dither=Image.Dither.NONE).save(path)
        assert torch.equal(MagneticTileDataset(str(tree), "test", SIDE)[0].mask, before)

    def test_errors(self, tree):
        mask = "MT_Crack/Imgs/exp1_num_31.png"
        same_errors(MagneticTileDataset, tree, [mask], "<root>/MT_<class>/Imgs/.*https://github.com/abin24")
        save(tree / mask, self.mask("Crack")[:20])
        with pytest.raises(ValueError, match=r"image's size \(40, 20\), but got 'MT_Crack.*31.png with \(20, 20\)'"):
            MagneticTileDataset(str(tree), "test", SIDE)[2]
        with pytest.raises(ValueError, match="must hold images of the split 'test', laid out as <root>/MT_<class>"):
            MagneticTileDataset(str(tree / "MT_Crack"))

    def test_real(self, shared_data):
        root = shared_data / "magnetic-tile"
        data = {split: build_dataset("magnetic-tile", str(root), split) for split in ("train", "val", "test")}
        assert {split: len(part) for split, part in data.items()} == {"train": 301, "val": 75, "test": 122}
        assert data["test"].classes == ("Blowhole", "Break", "Crack", "Fray", "Free", "Uneven")
        known = pd.read_csv(root / "split.csv").set_index("image")
        assert {row.image for row in data["test"].rows} == set(known.index[known["split"] == "test"])
        areas = known["mask_fraction"].to_dict()
        for row, sample in ((data["test"].rows[i], data["test"][i]) for i in spread(122, 40)):
            area = sample.mask.double().mean().item()
            assert area == pytest.approx(areas[row.image], abs=0.003)
            assert (area == 0) == (areas[row.image] == 0)
            assert row.label != 4 or area == 0


# Stanford Dogs

BREEDS = ["n02085620-Chihuahua", "n02086646-Blenheim_spaniel"]


def annotation(boxes, size=(HEIGHT, WIDTH)):
    """An annotation as published; boxes are (xmin, ymin, xmax, ymax)."""
    objects = "".join(
        "<object><name>dog</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        + "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    )
    stated = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<annotation><folder>02085620</folder>{stated}<segment>0</segment>{objects}</annotation>"


def cell_array(values):
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


class TestStanfordDogs:
    @pytest.fixture
    def tree(self, tmp_path):
        """Two breeds of eight dogs, five to train on."""
        listed = {"train": [], "test": []}
        for place, breed in enumerate(BREEDS):
            for number in range(8):
                name = f"{breed}/{breed.partition('-')[0]}_{number}"
                save_picture(tmp_path / "Images" / f"{name}.jpg", 100 * place + 10 * number)
                path = tmp_path / "Annotation" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(annotation([(4, 3, 12, 15)]))
                listed["train" if number < 5 else "test"].append((name, place + 1))
        for part, lines in listed.items():
            table = {
                "file_list": cell_array([f"{name}.jpg" for name, _ in lines]),
                "annotation_list": cell_array([name for name, _ in lines]),
                "labels": np.array([[float(number)] for _, number in lines]),
            }
            savemat(tmp_path / f"{part}_list.mat", table)
        return tmp_path

    def test_splits_and_labels(self, tree):
        data = {split: build_dataset("stanford-dogs", str(tree), split, SIDE) for split in ("train", "val", "test")}
        assert [row.id for row in data["val"].rows] == ["n02085620_4", "n02086646_4"]
        assert [row.id for row in data["test"].rows] == [
            f"{n}_{i}" for n in ("n02085620", "n02086646") for i in (5, 6, 7)
        ]
        assert len(data["train"]) == 8
        assert data["test"].classes == ("Chihuahua", "Blenheim spaniel")
        assert [row.label for row in data["test"].rows] == [0, 0, 0, 1, 1, 1]
        assert gray(data["test"], 4) == 160

    @pytest.mark.parametrize(
        ("boxes", "size", "corners"),
        [
            ([(4, 3, 12, 15)], (20, 24), [(4, 3, 12, 15)]),
            ([(4, 3, 12, 15), (10, 1, 20, 5)], (20, 24), [(4, 3, 12, 15), (10, 1, 20, 5)]),
            ([(-2, 3, 26, 22)], (20, 24), [(0, 3, 24, 20)]),
            ([(8, 6, 24, 30)], (40, 48), [(4, 3, 12, 15)]),
            ([(25, 3, 30, 15)], (20, 24), []),
        ],
        ids=["one", "two", "beyond the border", "of a larger picture", "outside"],
    )
    def test_boxes(self, tree, boxes, size, corners):
        (tree / "Annotation" / BREEDS[0] / "n02085620_5").write_text(annotation(boxes, size))
        expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for x0, y0, x1, y1 in corners:
            expected[y0:y1, x0:x1] = True
        sample = StanfordDogsDataset(str(tree), "test", SIDE)[0]
        assert torch.equal(sample.mask, shown(expected))
        assert not sample.undefined.any()

    def test_errors(self, tree):
        files = ["test_list.mat", f"Images/{BREEDS[0]}/n02085620_6.jpg", f"Annotation/{BREEDS[1]}/n02086646_7"]
        layout = "<root>/Images/<class>.*lists.tar.*http://vision.stanford.edu"
        same_errors(StanfordDogsDataset, tree, files, layout)
        data = StanfordDogsDataset(str(tree), "test", SIDE)
        for content, message in {
            "": r"`root` must hold annotations in XML, but got .*n02085620_5: no element found",
            annotation(
                [(4, "", 12, 15)]
            ): r"`root` must hold annotations in XML, but got .*n02085620_5: could not convert",
            annotation([]): r"annotations with a size and a box, but got '.*n02085620_5'",
            annotation([(4, 3, 12, 15)], (0, 0)): r"annotations with a size and a box, but got '.*n02085620_5'",
        }.items():
            (tree / "Annotation" / BREEDS[0] / "n02085620_5").write_text(content)
            with pytest.raises(ValueError, match=message):
                data[0]


# ImageNet-S


def make_imagenet_s(root, part, per_class, count=50):
    for place in range(count):
        folder = f"n{1440764 + 1000 * place:08d}"
        for number in range(per_class):
            path = root / f"ImageNetS{count}" / part / folder / f"{part}_{place:03d}_{number}.JPEG"
            save_picture(path, (2 * place + number) % 256)
            ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
            ids[5:15, 5:15] = place + 1
            ids[5:15, 15:18] = 1 + (place + 1) % count
            ids[2:4] = 1000
            mask = path.parents[2] / f"{part}-segmentation" / folder / f"{path.stem}.png"
            save(mask, np.stack([ids % 256, ids // 256, 0 * ids], axis=2).astype(np.uint8))


@pytest.fixture(scope="module")
def imagenet_s(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet-s")
    make_imagenet_s(root, "train-semi", 5)
    make_imagenet_s(root, "validation", 1)
    return root


class TestImageNetS:
    def test_splits_and_labels(self, imagenet_s):
        data = {split: build_dataset("imagenet-s", str(imagenet_s), split, SIDE) for split in ("train", "val", "test")}
        assert {split: len(part) for split, part in data.items()} == {"train": 200, "val": 50, "test": 50}
        assert [row.label for row in data["val"].rows] == list(range(50))
        assert data["val"][3].id == "train-semi_003_4"
        assert data["test"].classes[:2] == ("n01440764", "n01441764")
        assert gray(data["test"], 30) == 60

    def test_masks(self, imagenet_s):
        data = ImageNetSDataset(str(imagenet_s), "test", SIDE)
        object_, ignored = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
        object_[5:15, 5:15] = ignored[2:4] = True
        for sample in (data[0], data[49]):
            assert torch.equal(sample.mask, shown(object_))
            assert torch.equal(sample.undefined, shown(ignored))

    def test_class_ids_of_two_bytes(self, tmp_path):
        make_imagenet_s(tmp_path, "validation", 1, count=300)
        data = ImageNetSDataset(str(tmp_path), "test", SIDE, count=300)
        for label in (43, 254, 255, 256, 299):  # 44 and 300 share their lower byte
            assert data[label].label == label
            assert data[label].mask.sum() == 100

    def test_errors(self, imagenet_s):
        folder = "ImageNetS50/validation{}/n01441764/validation_001_0.{}"
        layout = "<root>/ImageNetS<50, 300 or 919>/.*https://github.com/LUSSeg"
        same_errors(ImageNetSDataset, imagenet_s, [folder.format("-segmentation", "png")], layout)
        with pytest.raises(ValueError, match="`count` must be one of 50, 300, 919, but got 100"):
            ImageNetSDataset(str(imagenet_s), count=100)
        with pytest.raises(ValueError, match=r"the 300 class folders of ImageNetS300/validation, .* got '0 of them in"):
            ImageNetSDataset(str(imagenet_s), count=300)
        mask = imagenet_s / folder.format("-segmentation", "png")
        content = mask.read_bytes()
        save(mask, np.full((HEIGHT, WIDTH), 2, dtype=np.uint8))
        with pytest.raises(ValueError, match=r"masks of mode RGB, but got 'ImageNetS50.*validation_001_0.png: L'"):
            ImageNetSDataset(str(imagenet_s))[1]
        save(mask, np.zeros((HEIGHT, HEIGHT, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match=r"image's size \(20, 24\), but got '.*_0.png with \(20, 20\)'"):
            ImageNetSDataset(str(imagenet_s))[1]
        mask.write_bytes(content)
