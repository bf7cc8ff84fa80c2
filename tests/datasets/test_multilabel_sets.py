"""Data sets with several classes in a photograph: a row for each class that is shown."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sibx.datasets import COCODataset, FolderDataset, VOCDataset, build_dataset, draw_boxes
from sibx.datasets.coco_masks import decode_segmentation, fill_polygon, unpack_counts
from sibx.images.geometry import resize_and_center_crop
from tests.helpers.trees import HEIGHT, SIDE, WIDTH, gray, same_errors, save, save_picture, shown
from tests.references import coco_masks as reference

# Pascal VOC 2012

VOC = "VOCdevkit/VOC2012"


def voc_values(number):
    """A person (15) in every photograph, a cow (10) in the even ones, a bottle (5) at the left edge, void around."""
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[3:17, 5:12] = 255
    values[4:16, 6:11] = 15
    values[:, 0] = 5
    if number % 2 == 0:
        values[9:11, 18:21] = 10
    return values


def save_with_palette(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    picture.putpalette([channel for i in range(256) for channel in (i * 37 % 256, i * 91 % 256, 255 - i)])
    assert picture.mode == "P"
    picture.save(path)


def make_voc(root):
    for part, numbers in {"train": range(10), "val": range(10, 14)}.items():
        names = [f"2007_{number:06d}" for number in numbers]
        for name, number in zip(names, numbers, strict=True):
            save_picture(root / VOC / "JPEGImages" / f"{name}.jpg", 10 * number)
            save_with_palette(root / VOC / "SegmentationClass" / f"{name}.png", voc_values(number))
        listed = root / VOC / "ImageSets" / "Segmentation" / f"{part}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))


class TestVOC:
    @pytest.fixture
    def tree(self, tmp_path):
        make_voc(tmp_path)
        return tmp_path

    def test_a_row_per_class_that_is_shown(self, tree):
        data = {split: build_dataset("voc2012", str(tree), split, SIDE) for split in ("train", "val", "test")}
        ids = {split: [row.id for row in part.rows] for split, part in data.items()}
        assert ids["val"] == ["2007_000004/cow", "2007_000004/person", "2007_000009/person"]
        assert ids["test"] == [f"2007_0000{i}" for i in ("10/cow", "10/person", "11/person", "12/cow", "12/person")] + [
            "2007_000013/person"
        ]
        assert len(ids["train"]) == 8 + 4
        assert not set(ids["train"]) & set(ids["val"])
        assert len(data["test"].classes) == 20
        assert [data["test"].classes[sample.label] for sample in (data["test"][0], data["test"][1])] == [
            "cow",
            "person",
        ]

    def test_masks(self, tree):
        cow, person = (VOCDataset(str(tree), "test", SIDE)[i] for i in (0, 1))
        values = voc_values(10)
        for sample, value in ((cow, 10), (person, 15)):
            assert torch.equal(sample.mask, shown(values == value))
            assert torch.equal(sample.undefined, shown(values == 255))
        assert torch.equal(cow.image, person.image)
        assert gray(VOCDataset(str(tree), "test", SIDE), 0) == 100

    def test_small_objects_can_be_left_out(self, tree):
        """A cow covers 6 of 480 pixels, a person 60."""
        assert len(VOCDataset(str(tree), "test", SIDE, min_area=6 / 480)) == 6
        assert {row.label for row in VOCDataset(str(tree), "test", SIDE, min_area=7 / 480).rows} == {14}
        with pytest.raises(ValueError, match="must hold images of the split 'test', laid out as"):
            VOCDataset(str(tree), "test", SIDE, min_area=0.5)

    def test_download_is_torchvisions(self, tmp_path, monkeypatch):
        calls = []

        def fetch(url, root, filename, md5):
            calls.append((filename, md5))
            make_voc(tmp_path / "new")

        monkeypatch.setattr("torchvision.datasets.voc.download_and_extract_archive", fetch)
        data = build_dataset("voc2012", str(tmp_path / "new"), "test", SIDE, download=True)
        assert len(data) == 6
        assert calls == [("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")]

    def test_errors(self, tree):
        files = [f"{VOC}/ImageSets/Segmentation/val.txt", f"{VOC}/JPEGImages/2007_000011.jpg"]
        mask = f"{VOC}/SegmentationClass/2007_000012.png"
        same_errors(VOCDataset, tree, [*files, mask], f"<root>/{VOC}/.*download=True")
        with pytest.raises(ValueError, match=r"`min_area` must lie in \[0, 1\], but got 2"):
            VOCDataset(str(tree), min_area=2)
        data = VOCDataset(str(tree), "test", SIDE)
        save(tree / mask, voc_values(12)[:, :20])
        with pytest.raises(ValueError, match=r"masks of their image's size \(20, 24\), but got '.*000012.png with"):
            data[3]
        save(tree / mask, np.stack([voc_values(12)] * 3, axis=2))
        with pytest.raises(ValueError, match=r"masks of mode P or L, but got '.*000012.png: RGB'"):
            VOCDataset(str(tree))


# COCO's masks


class TestMasks:
    def test_examples_of_the_format(self):
        """A row of pixels 0 0 1 1 1 0 1 has run lengths 2 3 1 1, and one of 1 1 1 1 1 1 0 has 0 6 1."""
        for counts, values in (([2, 3, 1, 1], [0, 0, 1, 1, 1, 0, 1]), ([0, 6, 1], [1, 1, 1, 1, 1, 1, 0])):
            mask = decode_segmentation({"size": [1, 7], "counts": counts}, (1, 7))
            assert mask.astype(int).tolist() == [values]
        column = decode_segmentation({"size": [3, 2], "counts": [2, 2, 2]}, (3, 2))
        assert column.astype(int).tolist() == [[0, 1], [0, 0], [1, 0]]

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
    def test_run_lengths(self, share):
        generator = np.random.default_rng(int(10 * share))
        for scale in (1, 9):
            height, width = generator.integers(1, 30, 2)
            mask = np.kron(generator.random((height, width)) < share, np.ones((scale, scale), dtype=bool))
            runs = {"size": list(mask.shape), "counts": reference.run_lengths(mask)}
            packed = {"size": list(mask.shape), "counts": reference.pack(runs["counts"])}
            assert np.array_equal(decode_segmentation(runs, mask.shape), mask)
            assert unpack_counts(packed["counts"]) == runs["counts"]
            assert np.array_equal(decode_segmentation(packed, mask.shape), mask)

    @pytest.mark.parametrize("seed", range(12))
    def test_polygons(self, seed):
        """Any polygon, also one that crosses itself, leaves the image or has corners at the centers of pixels."""
        generator = np.random.default_rng(seed)
        corners = generator.random((generator.integers(3, 9), 2)) * [18, 14] - 2
        if seed % 3 == 0:
            corners = np.round(2 * corners) / 2
        assert np.array_equal(fill_polygon(corners, (10, 13)), reference.fill_polygon(corners, (10, 13)))

    @pytest.mark.parametrize("seed", range(6))
    def test_boxes_are_filled_as_draw_boxes_fills_them(self, seed):
        x0, x1 = sorted(np.random.default_rng(seed).choice(27, 2, replace=False) / 2)
        y0, y1 = sorted(np.random.default_rng(seed + 9).choice(21, 2, replace=False) / 2)
        flat = [x0, y0, x1, y0, x1, y1, x0, y1]
        expected = draw_boxes([torch.tensor([[x0, y0, x1, y1]])], (10, 13))[0, 0]
        assert np.array_equal(decode_segmentation([flat], (10, 13)), expected.numpy())

    def test_parts_are_united(self):
        parts = [[0, 0, 4, 0, 4, 4, 0, 4], [3, 3, 6, 3, 6, 6, 3, 6]]
        mask = decode_segmentation(parts, (8, 8))
        assert mask.sum() == 16 + 9 - 1

    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # the peer's
    def test_peer(self):
        """Pixels on which COCO's own decoder says otherwise have their center within a fifth of the outline."""
        peer = pytest.importorskip("pycocotools.mask")
        generator = np.random.default_rng(0)
        for count in (3, 5, 9, 30):
            corners = (generator.random((count, 2)) * [60, 40]).round(2)
            theirs = peer.decode(peer.merge(peer.frPyObjects([corners.ravel().tolist()], 40, 60))).astype(bool)
            differ = np.argwhere(theirs != fill_polygon(corners, (40, 60)))
            assert all(reference.distance(corners, x + 0.5, y + 0.5) < 0.2 for y, x in differ)
            runs = peer.encode(np.asfortranarray(theirs.astype(np.uint8)))
            own = decode_segmentation({"size": runs["size"], "counts": runs["counts"].decode()}, (40, 60))
            assert np.array_equal(own, theirs)

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ([[0, 0, 4, 0]], r"`segmentation` must hold polygons of three corners or more, but got \[0, 0, 4, 0\]"),
            ([[0, 0, 4, 0, 4, 4, 1]], "must hold polygons of three corners or more"),
            ({"size": [2, 3], "counts": [2, 3]}, r"fill an image of size \(2, 3\), but got 'size \[2, 3\], sum 5"),
            ({"size": [3, 2], "counts": [2, 4]}, r"fill an image of size \(2, 3\), but got 'size \[3, 2\]"),
            ({"size": [2, 3], "counts": [7, -1]}, "fill an image of size .* lowest -1"),
            ({"size": [2, 3], "counts": "2 4"}, "`counts` must be packed in characters from '0' to 'o', but got '2 4'"),
            ({"size": [2, 3], "counts": "2T"}, "`counts` must end with a complete number, but got '2T'"),
        ],
    )
    def test_errors(self, segmentation, message):
        with pytest.raises(ValueError, match=message):
            decode_segmentation(segmentation, (2, 3))


# COCO

PERSON, DOG, TRAFFIC_LIGHT = 1, 18, 10  # ids have gaps; labels are ranks
CATEGORIES = [
    {"id": DOG, "name": "dog"},
    {"id": PERSON, "name": "person"},
    {"id": TRAFFIC_LIGHT, "name": "traffic light"},
]


def square(x, y, side):
    """A square as polygon, with the box and the area that its annotation states."""
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"segmentation": [polygon], "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}


def crowd(mask):
    runs = {"size": list(mask.shape), "counts": reference.run_lengths(mask)}
    return {"segmentation": runs, "bbox": [0, 0, WIDTH, HEIGHT], "area": int(mask.sum()), "iscrowd": 1}


CROWD = np.zeros((HEIGHT, WIDTH), dtype=bool)
CROWD[:, 4:8] = True


def make_coco(root, part, numbers):
    """Photographs with two people and a crowd over one of them, every third time a dog and a crowd of lights."""
    annotations = []
    for number in numbers:
        annotations += [{"image_id": number, "category_id": PERSON} | s for s in (square(3, 3, 3), square(12, 10, 6))]
        annotations.append({"image_id": number, "category_id": PERSON} | crowd(CROWD))
        if number % 3 == 0:
            annotations.append({"image_id": number, "category_id": DOG} | square(-1, 5, 4))
            annotations.append({"image_id": number, "category_id": TRAFFIC_LIGHT} | crowd(CROWD))
        if number % 3 == 1:
            annotations.append({"image_id": number, "category_id": DOG} | square(0, 5, 2))
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in reversed(numbers)
    ]
    for image in images:
        save_picture(root / part / image["file_name"], 8 * image["id"])
    write_instances(root, part, images, annotations)


def write_instances(root, part, images, annotations, categories=CATEGORIES):
    table = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))


class TestCOCO:
    @pytest.fixture
    def tree(self, tmp_path):
        make_coco(tmp_path, "train2017", range(1, 11))
        make_coco(tmp_path, "val2017", range(21, 24))
        return tmp_path

    def test_a_row_per_class_that_is_shown(self, tree):
        """A dog of two columns at the border is cut off, one of three is shown; a class of crowds only has no row."""
        data = {split: build_dataset("coco", str(tree), split, SIDE) for split in ("train", "val", "test")}
        names = {split: [row.id.removeprefix("0" * 10) for row in part.rows] for split, part in data.items()}
        assert names["test"] == ["21/person", "21/dog", "22/person", "23/person"]
        assert names["val"] == ["05/person", "10/person"]
        assert names["train"] == [
            f"0{n}" for n in ["1/person", "2/person", "3/person", "3/dog", "4/person", "6/person", "6/dog"]
        ] + [f"0{n}" for n in ("7/person", "8/person", "9/person", "9/dog")]
        assert data["test"].classes == ("person", "traffic light", "dog")
        assert [row.label for row in data["test"].rows] == [0, 2, 0, 0]
        assert gray(data["test"], 2) == 8 * 22

    def test_masks(self, tree):
        people, dogs = (COCODataset(str(tree), "test", SIDE)[i] for i in (0, 1))
        expected = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
        expected[0, 3:6, 3:6] = expected[0, 10:16, 12:18] = expected[1, 5:9, :3] = True
        assert torch.equal(people.mask, shown(expected[0]))
        assert torch.equal(people.undefined, shown(CROWD & ~expected[0]))
        assert torch.equal(dogs.mask, shown(expected[1]))
        assert not dogs.undefined.any()

    def test_small_objects_can_be_left_out(self, tree):
        """People have 45 of 480 pixels by what is stated, the dog 16."""
        for pixels, rows in ((16, 4), (17, 3), (45, 3)):
            assert len(COCODataset(str(tree), "test", SIDE, min_area=pixels / 480)) == rows
        with pytest.raises(ValueError, match="must hold images of the split 'test', laid out as"):
            COCODataset(str(tree), "test", SIDE, min_area=46 / 480)

    def test_errors(self, tree):
        files = ["annotations/instances_val2017.json", "val2017/000000000022.jpg"]
        same_errors(COCODataset, tree, files, "<root>/{train2017,val2017}/.*https://cocodataset.org")
        with pytest.raises(ValueError, match=r"`min_area` must lie in \[0, 1\], but got -1"):
            COCODataset(str(tree), min_area=-1)
        data = COCODataset(str(tree), "test", SIDE)
        save_picture(tree / "val2017" / "000000000021.jpg", 0, size=(20, 30))
        with pytest.raises(ValueError, match=r"fill an image of size \(20, 30\), but got 'size \[20, 24\]"):
            data[0]


# The real photographs


def things(root):
    """The photographs of COCO128 with the ids of their classes of objects; higher ids are stuff."""
    for path in sorted((root / "masks" / "train2017").glob("*.png"))[::16]:
        values = np.asarray(Image.open(path))
        yield path.stem, values, [int(v) for v in np.unique(values) if 0 < v <= 90]


def names_of_classes(root):
    lines = (root / "config.yaml").read_text().partition("classes:\n")[2].splitlines()
    return {int(number): name.strip() for number, _, name in (line.partition(":") for line in lines)}


def test_real_photographs_as_coco(shared_data, tmp_path):
    """Masks of real photographs, written as COCO's run lengths and packed ones, come back pixel by pixel."""
    root = shared_data / "coco128-semseg"
    names, images, annotations, masks = names_of_classes(root), [], [], {}
    for stem, values, classes in things(root):
        size = dict(zip(("height", "width"), values.shape, strict=True))
        images.append({"id": int(stem), "file_name": f"{stem}.jpg", **size})
        for number in classes:
            mask = values == number
            (y0, x0), (y1, x1) = np.argwhere(mask).min(0).tolist(), (np.argwhere(mask).max(0) + 1).tolist()
            counts = reference.run_lengths(mask)
            runs = {"size": list(mask.shape), "counts": reference.pack(counts) if number % 2 else counts}
            stated = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(mask.sum()), "iscrowd": 0}
            annotations.append({"image_id": int(stem), "category_id": number, "segmentation": runs, **stated})
            masks[f"{stem}/{names[number]}"] = torch.from_numpy(mask)[None]
    categories = [{"id": number, "name": names[number]} for number in sorted({a["category_id"] for a in annotations})]
    write_instances(tmp_path, "val2017", images, annotations, categories)
    (tmp_path / "val2017").symlink_to(root / "images" / "train2017")
    data = build_dataset("coco", str(tmp_path), "test", 128)
    assert len(data) > 10
    for sample in (data[i] for i in range(len(data))):
        assert torch.equal(sample.mask, resize_and_center_crop(masks[sample.id], 128, masks=True))
        assert sample.id.endswith(f"/{data.classes[sample.label]}")


def test_real_photographs_as_folder(shared_data, tmp_path):
    """The same photographs as the user's own: a mask per class, an index with a line for each."""
    root = shared_data / "coco128-semseg"
    names, rows = names_of_classes(root), []
    for stem, values, classes in things(root):
        for number in classes:
            save(tmp_path / "masks" / f"{stem}_{number}.png", (values == number).astype(np.uint8))
            rows.append((f"images/{stem}.jpg", f"masks/{stem}_{number}.png", names[number], "test"))
    (tmp_path / "images").symlink_to(root / "images" / "train2017")
    pd.DataFrame(rows, columns=["image", "mask", "label", "split"]).to_csv(tmp_path / "index.csv", index=False)
    data = FolderDataset(str(tmp_path), "test", 128)
    assert len({data[i].id for i in range(len(data))}) == len(rows)
    shares = [data[i].mask.double().mean().item() for i in range(len(data))]
    assert np.mean(np.array(shares) > 0) > 0.9  # the central square cuts a few off
    assert 0.02 < np.mean(shares) < 0.5


def test_real_objects_as_folder(shared_data, tmp_path):
    """ETH-80 has a layout of its own, and an index does for it: objects of eight kinds on a plain background."""
    root = shared_data / "eth80"
    table = pd.read_csv(root / "split.csv").iloc[::40]
    table["mask"] = "eth80/" + table["image"].str.replace(r"/([^/]*)\.jpg$", r"/maps/\1-map.png", regex=True)
    table["image"] = "eth80/" + table["image"]
    table.rename(columns={"class": "label"}).to_csv(tmp_path / "index.csv", index=False)
    (tmp_path / "eth80").symlink_to(root)
    data = FolderDataset(str(tmp_path), "all", 192)
    assert data.classes == ("apple", "car", "cow", "cup", "dog", "horse", "pear", "tomato")
    assert len(data) == len(table) == 28
    for sample, area in zip((data[i] for i in range(28)), table["mask_fraction"], strict=True):
        assert sample.mask.double().mean().item() == pytest.approx(area, abs=0.002)
        blue = data.normalization.inverse(sample.image)[2] - data.normalization.inverse(sample.image)[0]
        assert blue[~sample.mask[0]].mean() > blue[sample.mask[0]].mean()
