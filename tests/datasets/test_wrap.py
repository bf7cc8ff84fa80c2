"""wrap: any data set with items of any form."""

import json
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, FakeData, ImageFolder

from sibx import TrainConfig, evaluate, fine_tune, wrap
from sibx.datasets import collate
from sibx.images import IMAGENET, Normalization, Unchanged
from sibx.models import TinyCNN

GRAY = Normalization((0.5,), (0.25,))
SIZE = (20, 24)
OBJECT = np.zeros(SIZE, bool)
OBJECT[4:12, 6:18] = True
BOX = (6, 4, 18, 12)  # the same object
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
FLOATS = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
Item = namedtuple("Item", "picture kind shape")


@dataclass
class Record:
    picture: object
    kind: int
    shape: object


def close(one, other):
    return torch.allclose(one, other, atol=1e-5)


def items(image=PIXELS, label=1, mask=OBJECT, count=3):
    return [(image, label, mask)] * count


def wrapped(source, **options):
    return wrap(source, **{"mask": 2, "classes": 3, **options})


def test_it_says_what_it_is():
    data = wrapped(items(), name="mine", split="train")
    assert repr(data) == str(data) == "<mine/train: 3 samples of 3 classes>"


class TestItems:
    @pytest.mark.parametrize(
        ("item", "keys"),
        [
            ((PIXELS, 1, OBJECT), (0, 1, 2)),
            ([PIXELS, 1, OBJECT], (0, 1, -1)),
            ({"a": PIXELS, "b": 1, "c": OBJECT}, ("a", "b", "c")),
            (Item(PIXELS, 1, OBJECT), ("picture", "kind", "shape")),
            (Item(PIXELS, 1, OBJECT), (0, 1, 2)),
            (Record(PIXELS, 1, OBJECT), ("picture", "kind", "shape")),
            ((PIXELS, {"kind": [0, 1], "mask": OBJECT}), (0, (1, "kind", 1), (1, "mask"))),
            ((PIXELS, 1, OBJECT), (lambda item: item[0], lambda item: item[1], lambda item: item[2])),
        ],
    )
    def test_parts_are_found_in_any_form(self, item, keys):
        image, label, mask = keys
        sample = wrap([item], image=image, label=label, mask=mask, classes=["x", "y"])[0]
        assert close(sample.image, IMAGENET(FLOATS))
        assert sample.label == 1
        assert torch.equal(sample.mask[0], torch.from_numpy(OBJECT))
        assert (sample.id, sample.group) == ("0", -1)
        assert not sample.undefined.any()

    def test_group_id_and_undefined(self):
        item = {"i": PIXELS, "l": 0, "g": torch.tensor(4), "n": "p7", "u": ~OBJECT}
        data = wrap([item], image="i", label="l", group="g", id="n", undefined="u", classes=1)
        assert (data[0].group, data[0].id, data.group_of(0)) == (4, "p7", 4)
        assert torch.equal(data[0].undefined[0], torch.from_numpy(~OBJECT))
        assert data.no_masks

    @pytest.mark.parametrize(
        ("item", "options", "message"),
        [
            (
                (PIXELS, 1),
                {"mask": 2},
                r"item 0 of mine: `mask` must .* a tuple with 2 parts.*|.*2 parts, counted from 0",
            ),
            ({"x": PIXELS, "y": 1}, {}, r"`image` must name a part of the items \(the keys \['x', 'y'\]\), but got 0"),
            (Item(PIXELS, 1, None), {"image": "pic"}, r"the fields \['picture', 'kind', 'shape'\], but got 'pic'"),
            (
                Record(PIXELS, 1, None),
                {"image": "pic"},
                r"the attributes \['kind', 'picture', 'shape'\], but got 'pic'",
            ),
            (FLOATS, {}, r"a float32 tensor of shape \(3, 20, 24\) with no parts, but got 0"),
        ],
    )
    def test_a_wrong_key_says_what_there_is(self, item, options, message):
        with pytest.raises(ValueError, match=message):
            wrap([item], classes=3, name="mine", **options)

    def test_a_key_that_some_dicts_lack_is_no_mask_but_one_that_all_lack_is_a_mistake(self):
        items = [{"i": PIXELS, "l": 0}] * 2 + [{"i": PIXELS, "l": 0, "m": OBJECT}]
        data = wrap(items, image="i", label="l", mask="m", classes=1)
        assert [bool(data[i].mask.any()) for i in range(3)] == [False, False, True]
        with pytest.raises(ValueError, match="`mask` must name a part"):
            wrap(items[:2], image="i", label="l", mask="m", classes=1)

    @pytest.mark.parametrize("source", [iter([1]), {"train": [1]}, DataLoader([1]), 3, []])
    def test_what_is_no_data_set_is_refused(self, source):
        with pytest.raises(ValueError, match="`dataset` must"):
            wrap(source)


class TestImages:
    @pytest.mark.parametrize(
        "image",
        [
            Image.fromarray(PIXELS),
            PIXELS,
            torch.from_numpy(PIXELS).permute(2, 0, 1),
            PIXELS.astype(np.uint16) * 257,
            PIXELS.astype(">u2") * 257,
        ],
    )
    def test_pictures_and_whole_numbers_are_pixels(self, image):
        data = wrapped(items(image))
        assert close(data[0].image, IMAGENET(FLOATS))
        assert data.normalization is IMAGENET

    def test_a_path_is_read(self, tmp_path):
        Image.fromarray(PIXELS).save(tmp_path / "a.png")
        Image.fromarray(OBJECT).save(tmp_path / "m.png")
        sample = wrapped([(str(tmp_path / "a.png"), 1, tmp_path / "m.png")])[0]
        assert close(sample.image, IMAGENET(FLOATS))
        assert torch.equal(sample.mask[0], torch.from_numpy(OBJECT))

    @pytest.mark.parametrize("image", [FLOATS, FLOATS.double().permute(1, 2, 0).numpy()])
    def test_floats_are_what_the_model_sees_unless_a_normalization_is_given(self, image):
        as_is, made, done = wrapped(items(image)), wrapped(items(image), normalization=IMAGENET), None
        assert torch.equal(as_is[0].image, FLOATS)
        assert torch.equal(as_is.normalization.inverse(as_is[0].image), FLOATS)
        assert close(made[0].image, IMAGENET(FLOATS))
        done = wrapped(items(made[0].image), normalized=IMAGENET)
        assert torch.equal(done[0].image, made[0].image)
        assert close(done.normalization.inverse(done[0].image), FLOATS)

    def test_floats_normalized_nobody_says_how_have_no_pixels(self):
        data = wrapped(items(IMAGENET(FLOATS)))
        assert isinstance(data.normalization, Unchanged)
        with pytest.raises(ValueError, match="`dataset` must say how its images were normalized"):
            data.normalization.inverse(data[0].image)

    @pytest.mark.parametrize("channels", [1, 2, 4, 12])
    def test_any_number_of_channels(self, channels):
        normalization = Normalization((0.5,) * channels, (0.25,) * channels)
        image = torch.randint(0, 256, (channels, *SIZE), dtype=torch.uint8)
        sample = wrapped(items(image), normalization=normalization)[0]
        assert close(sample.image, normalization(image / 255))
        with pytest.raises(ValueError, match=f"`normalization` must be given for pixels of {channels} channels"):
            wrapped(items(image))

    def test_pictures_come_in_the_channels_of_the_normalization(self):
        gray = Image.fromarray(PIXELS[..., 0])
        sample = wrapped(items(gray), normalization=GRAY)[0]
        assert close(sample.image, GRAY(FLOATS[:1]))
        with pytest.raises(ValueError, match="1 or 3 channels for pictures"):
            wrapped(items(gray), normalization=Normalization((0.5,) * 4, (0.5,) * 4))

    def test_a_picture_is_turned_upright_with_its_mask(self):
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(PIXELS)))
        picture.getexif()[0x0112] = 6
        assert close(wrapped(items(picture))[0].image, IMAGENET(FLOATS))

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (PIXELS[..., 0], {}, r"`image` must have the shape \(H, W, C\)"),
            (FLOATS[0], {}, r"`image` must have the shape \(C, H, W\)"),
            (FLOATS.permute(1, 2, 0), {}, r"`image` must have the shape \(C, H, W\)"),
            (FLOATS.numpy(), {}, r"`image` must have the shape \(H, W, C\)"),
            (FLOATS.long(), {}, "uint8, uint16 or floating-point"),
            ("nowhere.png", {}, "nowhere.png cannot be read"),
            (None, {}, "`image` must be a picture, its path"),
            (FLOATS.where(FLOATS > 0.1, torch.nan), {}, "`image` must hold finite values"),
            (IMAGENET(FLOATS), {"normalization": IMAGENET}, r"lie in \[0, 1\] to be normalized"),
            (FLOATS, {"normalization": GRAY}, "have 1 channels, those of the normalization"),
            (FLOATS, {"normalization": IMAGENET, "normalized": IMAGENET}, "`normalization` must be None beside"),
            (torch.zeros(3, 0, 4), {}, r"`image` must have the shape"),
        ],
    )
    def test_what_is_no_image_is_refused_with_the_number_of_the_item(self, image, options, message):
        with pytest.raises((ValueError, OSError), match=f"item 0 of wrapped: .*{message}"):
            wrapped(items(image), **options)

    def test_a_later_item_is_named(self):
        bad = FLOATS.clone()
        bad[0, 0, 0] = torch.inf
        data = wrapped([*items(FLOATS), *items(bad)])
        with pytest.raises(ValueError, match="item 3 of wrapped: `image` must hold finite values"):
            data[3]

    def test_image_size_brings_images_and_masks_of_all_sizes_together(self):
        wide = np.repeat(PIXELS, 2, axis=1), 1, np.repeat(OBJECT, 2, axis=1)
        data = wrapped([*items(), wide], image_size=16)
        assert {tuple(data[i].image.shape) for i in range(4)} == {(3, 16, 16)}
        assert {tuple(data[i].mask.shape) for i in range(4)} == {(1, 16, 16)}
        with pytest.raises(ValueError, match=r"item 3 .*\(`image_size` brings all to one size\)"):
            wrapped([*items(), wide])[3]


class TestMasks:
    @pytest.mark.parametrize(
        "mask",
        [
            OBJECT,
            OBJECT[None],
            OBJECT[..., None],
            torch.from_numpy(OBJECT),
            torch.from_numpy(OBJECT)[None].float(),
            OBJECT * np.uint8(255),
            np.stack([OBJECT, OBJECT & False]),
            np.stack([OBJECT] * 3, 2) * np.uint8(7),
            OBJECT * np.float32(0.6),
            OBJECT.tolist(),
            Image.fromarray(OBJECT),
            Image.fromarray(OBJECT * np.uint8(255)),
            BOX,
            [BOX],
            torch.tensor(BOX),
            np.array([BOX, (6, 4, 7, 5)], np.float32),
            tv_tensors.BoundingBoxes([[6, 4, 12, 8]], format="XYWH", canvas_size=SIZE),
            tv_tensors.Mask(torch.from_numpy(OBJECT)),
        ],
    )
    def test_any_form_is_the_same_mask(self, mask):
        assert torch.equal(wrapped(items(mask=mask))[0].mask[0], torch.from_numpy(OBJECT))

    @pytest.mark.parametrize("mask", [None, [], torch.zeros(0, 4), np.zeros(SIZE)])
    def test_no_mask_is_an_empty_one(self, mask):
        sample = wrapped(items(mask=mask))[0]
        assert sample.mask.shape == (1, *SIZE)
        assert not sample.mask.any()

    def test_a_box_that_rounding_puts_outside_is_cut_off_and_others_are_refused(self):
        assert wrapped(items(mask=(10, -0.3, 24.4, 12)))[0].mask.sum() == 14 * 12
        with pytest.raises(ValueError, match=r"item 0 .*`boxes` must lie within images of size \(20, 24\)"):
            wrapped(items(mask=(0, 0, 30, 12)))

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (OBJECT[:10], r"`mask` must have the image's size \(20, 24\), but got \(10, 24\)"),
            (Image.fromarray(OBJECT[:10]), r"`mask` must have the image's size"),
            (OBJECT[0], "`mask` must have the image's size"),
            ([(1, 2, 3)], "`mask` must have the image's size"),
            ([(1, 2), (3,)], "`mask` must be a picture, its path, an array"),
            (object(), "`mask` must be a picture, its path, an array"),
            (np.array(["a"]), "`mask` must be a picture, its path, an array"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, mask, message):
        with pytest.raises(ValueError, match=f"item 0 of wrapped: {message}"):
            wrapped(items(mask=mask))

    def test_doubtful_masks_are_warned_of(self):
        with pytest.warns(UserWarning, match="Masks are full, as item 0 of wrapped"):
            wrapped(items(mask=np.ones(SIZE, bool)))


class TestLabels:
    @pytest.mark.parametrize(
        "label", [1, True, 1.0, np.int64(1), torch.tensor(1), torch.tensor([1]), np.array(1.0), "b"]
    )
    def test_any_form_is_the_same_class(self, label):
        assert wrapped(items(label=label), classes=["a", "b", "c"])[0].label == 1

    @pytest.mark.parametrize(
        "label", [torch.tensor([1.0, 0, 1]), [1, 0, 1], np.array([True, False, True]), ["a", "c"], ("c", "a")]
    )
    def test_several_labels_with_a_mask_each(self, label):
        data = wrapped(items(label=label, mask=[OBJECT, BOX]), classes=["a", "b", "c"])
        assert data.several_labels
        assert data[0].label.tolist() == [1, 0, 1]
        assert data[0].mask.shape == (2, *SIZE)
        assert collate([data[0], data[1]]).masks.shape == (4, 1, *SIZE)
        by_name = wrapped(items(label=label, mask={"c": [BOX]}), classes=["a", "b", "c"])
        assert by_name[0].mask.flatten(1).sum(1).tolist() == [0, OBJECT.sum()]
        without = wrapped(items(label=label, mask=None), classes=["a", "b", "c"])
        assert without[0].mask.shape == (2, *SIZE)

    def test_an_unknown_label_is_nan_and_none_may_be_there(self):
        data = wrapped(items(label=[0, np.nan, 0], mask=None))
        assert data[0].label.isnan().tolist() == [False, True, False]
        assert data[0].mask.shape == (0, *SIZE)

    @pytest.mark.parametrize(
        ("label", "mask", "message"),
        [
            (3, None, r"`label` must be a class in 0\.\.2, its name, or a vector of 3, but got 3"),
            (-1, None, r"`label` must be a class in 0\.\.2"),
            (0.5, None, r"`label` must be a class in 0\.\.2"),
            (float("nan"), None, r"`label` must be a class in 0\.\.2"),
            ("d", None, "`label` must be one of a, b, c, but got 'd'"),
            (["a", "d"], None, "`label` must be one of a, b, c, but got 'd'"),
            ([1, 0], None, r"`label` must hold 0, 1 or NaN for each of the 3 classes, but got \[1.0, 0.0\]"),
            ([1, 0, 2], None, "`label` must hold 0, 1 or NaN"),
            (OBJECT, None, "`label` must be a class in"),
            ({}, None, "`label` must be a number, a name, or a vector"),
            ([[1], [1, 2]], None, "`label` must be a number, a name, or a vector"),
            ([1, 0, 1], [OBJECT], r"`mask` must hold one mask for each of the 2 classes that are there, \['a', 'c'\]"),
            ([1, 0, 1], {"b": OBJECT}, r"`mask` must hold one mask for each of the 2 classes that are there"),
        ],
    )
    def test_what_is_no_label_is_refused(self, label, mask, message):
        with pytest.raises(ValueError, match=f"item 0 of wrapped: {message}"):
            wrapped(items(label=label, mask=mask), classes=["a", "b", "c"])

    def test_labels_of_two_kinds_are_refused(self):
        data = wrapped([*items(), *items(label=[1, 0, 0], mask=None)])
        with pytest.raises(ValueError, match=r"item 3 .*`label` must be of the kind of the first item's, one label"):
            data[3]

    @pytest.mark.parametrize("classes", [None, 0, True, [], ["a", "a"], [1, 2], "ab"])
    def test_classes_have_to_be_known(self, classes):
        with pytest.raises(ValueError, match="`classes` must be different names, or their number"):
            wrapped(items(), classes=classes)

    def test_a_data_set_that_knows_its_classes_is_believed(self):
        source = SimpleNamespace(classes=["x", "y"])
        named = type("Named", (list,), {"classes": source.classes})(items())
        assert wrapped(named, classes=None).classes == ("x", "y")
        assert wrapped(Subset(named, [0]), classes=None).classes == ("x", "y")
        assert wrapped(items(label=[1, 0, 0, 0], mask=None), classes=None).classes == ("0", "1", "2", "3")
        with pytest.raises(ValueError, match="`classes` must be"):  # a function may give other labels
            wrapped(named, classes=None, label=lambda item: item[1])


class Lazy(Dataset):
    """Counts how often an item is read."""

    classes = ("a", "b")

    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return PIXELS, index % 2, OBJECT


class TestUse:
    def test_nothing_but_the_first_item_is_read_ahead(self):
        source = Lazy(1000)
        wrap(source, mask=2)
        assert set(source.read) == {0}

    def test_everything_works_with_workers(self):
        data = wrap(Lazy(8), mask=2, image_size=16)
        config = TrainConfig(epochs=1, batch_size=4, workers=2)
        result = fine_tune(TinyCNN(2, width=4), data, config=config, progress=False)
        options = {"methods": ["gradcam"], "metrics": ["foreground_focus"], "target": "label", "progress": False}
        one, two = (evaluate(result.model, data, workers=n, **options) for n in (0, 2))
        assert one.rows.equals(two.rows)
        assert one.rows["image_id"].tolist() == [str(i) for i in range(8)]

    def test_torchvision(self, tmp_path):
        assert wrap(FakeData(3, (3, 20, 24), 5)).classes == ("0", "1", "2", "3", "4")
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            Image.fromarray(PIXELS).save(tmp_path / name / "0.png")
        data = wrap(ImageFolder(tmp_path), id=lambda item: "x")
        assert (data.classes, data[1].label, data[1].id) == (("cat", "dog"), 1, "x")

    def test_tensors(self):
        data = wrap(TensorDataset(FLOATS[None], torch.tensor([1])), classes=2)
        assert data[0].label == 1

    def test_coco(self, tmp_path):
        pytest.importorskip("pycocotools")
        (tmp_path / "pictures").mkdir()
        Image.fromarray(PIXELS).save(tmp_path / "pictures" / "1.png")
        notes = [{"id": n, "image_id": 1, "category_id": n, "bbox": [6, 4, 12, 8], "area": 96} for n in (1, 3)]
        text = {
            "images": [{"id": 1, "file_name": "1.png", "height": 20, "width": 24}],
            "annotations": notes,
            "categories": [{"id": n, "name": str(n)} for n in (1, 2, 3)],
        }
        (tmp_path / "notes.json").write_text(json.dumps(text))
        data = wrap(
            CocoDetection(str(tmp_path / "pictures"), str(tmp_path / "notes.json")),
            label=lambda item: [str(note["category_id"]) for note in item[1]],
            mask=lambda item: {
                str(note["category_id"]): tv_tensors.BoundingBoxes([note["bbox"]], format="XYWH", canvas_size=SIZE)
                for note in item[1]
            },
            classes=["1", "2", "3"],
        )
        assert data[0].label.tolist() == [1, 0, 1]
        assert torch.equal(data[0].mask, torch.from_numpy(np.stack([OBJECT] * 2)))

    def test_hugging_face(self):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["cat", "dog"]),
                "mask": datasets.Image(),
                "boxes": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
            }
        )
        rows = {
            "image": [Image.fromarray(PIXELS)] * 2,
            "label": [1, 0],
            "mask": [Image.fromarray(OBJECT * np.uint8(255)), None],
            "boxes": [[BOX], []],
        }
        source = datasets.Dataset.from_dict(rows, features=features)
        data = wrap(source, image="image", label="label", mask="mask")
        assert data.classes == ("cat", "dog")
        assert close(data[0].image, IMAGENET(FLOATS))
        assert torch.equal(data[0].mask[0], torch.from_numpy(OBJECT))
        assert not data[1].mask.any()
        boxes = wrap(source, image="image", label="label", mask="boxes")
        assert torch.equal(boxes[0].mask, data[0].mask)
        assert [data.label_of(i) for i in range(2)] == [1, 0]
        torch_rows = wrap(source.with_format("torch"), image="image", label="label", mask="boxes")
        assert torch.equal(torch_rows[0].mask, data[0].mask)
        assert close(torch_rows[0].image, data[0].image)
        with pytest.raises(ValueError, match="`dataset` must have a length and items"):
            wrap(datasets.DatasetDict(train=source), image="image", label="label")
