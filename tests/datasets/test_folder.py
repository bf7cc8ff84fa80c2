"""The user's own pictures and masks, in the forms in which people have them."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sibx import GuidanceConfig, SIBConfig, TrainConfig, fine_tune
from sibx.cli import main
from sibx.datasets import FolderDataset, InMemoryDataset, build_dataset
from sibx.datasets.folder_files import order_classes
from sibx.evaluation import evaluate, evaluate_reliance
from sibx.models import build_model
from sibx.report.cards import data_cards
from tests.helpers.trees import save, save_picture

MASK = np.zeros((40, 50), dtype=np.uint8)
MASK[10:30, 10:40] = 1
CENTER = 20 * 30 / 1600  # share of the object in the central square, which is columns 5..44


def save_image(path, gray):
    save_picture(path, gray, MASK.shape)


def save_mask(path, mask=MASK):
    save(path, mask)


def masked(data):
    """The share of the object in every mask."""
    return [data[i].mask.double().mean().item() for i in range(len(data))]


@pytest.fixture
def tree(tmp_path):
    for label in ("cat", "dog"):
        for i in range(6):
            save_image(tmp_path / "images" / label / f"{i}.jpg", 40 * i)
            save_mask(tmp_path / "masks" / label / f"{i}.png")
    (tmp_path / "images" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def test_tree(tree):
    data = FolderDataset(str(tree), "all", image_size=20)
    assert len(data) == 12
    assert data.classes == ("cat", "dog")
    assert data[0].id == "images/cat/0.jpg"
    assert masked(data) == pytest.approx([CENTER] * 12)
    assert data[1].image.shape == (3, 20, 20)
    assert data[11].label == 1


def test_classes_come_in_the_order_of_a_file_that_lists_them(tree):
    (tree / "classes.txt").write_text("dog\n\n bird \ncat\n")
    data = FolderDataset(str(tree), "all", image_size=20)
    assert data.classes == ("dog", "bird", "cat")
    assert data[0].label == 2
    assert FolderDataset(str(tree), "all", image_size=20, classes=("cat", "dog")).classes == ("cat", "dog")
    (tree / "classes.txt").write_text("dog\n")
    with pytest.raises(ValueError, match="`classes` must name all labels"):
        FolderDataset(str(tree), "all", image_size=20)
    (tree / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"`root` must hold a classes\.txt in UTF-8"):
        FolderDataset(str(tree), "all", image_size=20)


def test_splits_partition_and_stay(tree):
    names = {s: {e.image for e in FolderDataset(str(tree), "all").entries if e.split == s} for s in ("train", "test")}
    save_image(tree / "images" / "cat" / "new.jpg", 3)
    save_mask(tree / "masks" / "cat" / "new.png")
    assert names["train"] <= {e.image for e in FolderDataset(str(tree), "train").entries}
    assert not names["train"] & names["test"]


def test_index(tree):
    rows = [
        {"image": "images/cat/1.jpg", "mask": "masks/cat/1.png", "label": "cat", "split": "test", "group": 3},
        {"image": "images/dog/1.jpg", "mask": "", "label": "dog", "split": "test", "group": "", "undefined": ""},
        {"image": "images/dog/2.jpg", "mask": "", "label": "dog", "split": "train", "undefined": "masks/dog/2.png"},
    ]
    pd.DataFrame(rows).to_csv(tree / "index.csv", index=False)
    empty = r"1 of 2 pictures have no mask: the cell `mask` of images/dog/1\.jpg is empty in .*index\.csv"
    with pytest.warns(UserWarning, match=empty) as given:
        data = FolderDataset(str(tree), "test", image_size=40)
    assert given[0].filename == __file__
    assert [s.group for s in (data[0], data[1])] == [3, -1]
    assert FolderDataset(str(tree), "train", image_size=40)[0].undefined.any()


def test_several_classes_in_an_image(tree):
    rows = [("images/cat/1.jpg", "masks/cat/1.png", "cat", "test"), ("images/cat/1.jpg", "", "mat", "test")]
    rows += [("images/dog/1.jpg", "masks/dog/1.png", "dog", "test")]
    table = pd.DataFrame(rows, columns=["image", "mask", "label", "split"])
    table.to_csv(tree / "index.csv", index=False)
    with pytest.warns(
        UserWarning, match=r"1 of 3 pictures have no mask: the cell `mask` of images/cat/1\.jpg is empty"
    ):
        data = FolderDataset(str(tree), "test", image_size=40)
    assert [data[i].photo for i in range(3)] == ["images/cat/1.jpg", "images/cat/1.jpg", "images/dog/1.jpg"]
    assert [data[i].id for i in range(3)] == ["images/cat/1.jpg/cat", "images/cat/1.jpg/mat", "images/dog/1.jpg"]
    assert [bool(data[i].mask.any()) for i in range(3)] == [True, False, True]
    pd.concat([table, table[1:2]]).to_csv(tree / "index.csv", index=False)
    with pytest.raises(ValueError, match=r"`root` must list an image once for each label, but got .*1.jpg', 'mat'\)"):
        FolderDataset(str(tree), "train")


def test_color_mask(tree):
    save_mask(tree / "masks" / "cat" / "2.png", np.stack([0 * MASK, 0 * MASK, 200 * MASK], -1))
    assert FolderDataset(str(tree), "all", image_size=20)[2].mask.double().mean() == pytest.approx(CENTER)


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
@pytest.mark.parametrize("shape", [(60, 60), (60, 80)])
def test_a_photograph_of_a_phone(tmp_path, orientation, turns, shape):
    """The mask was drawn on the picture as it is shown, and lies on the bright object."""
    shown = np.full((*shape, 3), 30, dtype=np.uint8)
    shown[:30, 10:40] = 250
    exif = Image.Exif()
    exif[274] = orientation
    for kind in ("images", "masks"):
        (tmp_path / kind / "a").mkdir(parents=True)
    Image.fromarray(np.ascontiguousarray(np.rot90(shown, turns))).save(tmp_path / "images/a/p.jpg", exif=exif)
    Image.fromarray((shown[..., 0] > 100).astype(np.uint8)).save(tmp_path / "masks/a/p.png")
    data = FolderDataset(str(tmp_path), "all", 60)
    bright = data.normalization.inverse(data[0].image).mean(0, keepdim=True) > 0.5
    assert (bright == data[0].mask).double().mean() > 0.98


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("size", [0, 60])
def test_a_damaged_file_is_named(tree, kind, size):
    path = tree / kind / "dog" / ("2.jpg" if kind == "images" else "2.png")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(OSError, match=rf"{kind}/dog/{path.name} (\(\w+|cannot be read)"):
        FolderDataset(str(tree), "all", 20)[8]  # the header of a mask is 33 bytes


def test_one_warning_of_transparent_pictures(tree):
    for i in range(3):
        Image.new("LA", (50, 40)).save(tree / "images" / "dog" / f"9{i}.png")
        save_mask(tree / "masks" / "dog" / f"9{i}.png")
    data = FolderDataset(str(tree), "all", 20)
    with pytest.warns(UserWarning, match="put on white, as in .*90.png") as given:
        white = [data[i].image for i in (12, 13, 14)]
    assert len(given) == 1
    assert data.normalization.inverse(torch.stack(white)).numpy() == pytest.approx(1)


def test_errors(tree, tmp_path):
    save_mask(tree / "masks" / "cat" / "3.png", MASK[:, :40])
    with pytest.raises(ValueError, match=r"got 1 of 24 .*: masks/cat/3\.png with \(40, 40\) for \(40, 50\)"):
        FolderDataset(str(tree), "all")[3]
    pd.DataFrame({"image": ["a.jpg"], "label": ["x"]}).to_csv(tree / "index.csv", index=False)
    with pytest.raises(ValueError, match=r"index.csv with the columns \['mask'\]"):
        FolderDataset(str(tree))
    pd.DataFrame({"image": ["a.jpg"], "label": ["x"], "mask": [""]}).to_csv(tree / "index.csv", index=False)
    with pytest.raises(ValueError, match=r"every file that index.csv names, but got 'a.jpg'"):
        FolderDataset(str(tree))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"hold images of the split 'test', laid out as"):
        FolderDataset(str(tmp_path / "empty"))


def relayout(tree, folder, name):
    """Move the masks to another folder, and give them other names."""
    for path in sorted((tree / "masks").glob("*/*")):
        target = tree / folder / path.parent.name / name.format(path.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(path.with_suffix(".moved"))
        Image.open(path.with_suffix(".moved")).point(lambda x: 255 * x).save(target)
    return FolderDataset(str(tree), "all", 40)


class TestNamesOfMasks:
    @pytest.mark.parametrize("folder", ["masks", "mask"])
    @pytest.mark.parametrize("name", ["{}.PNG", "{}.bmp", "{}.tif", "{}.gif", "{}_mask.png", "{}.jpg.png"])
    def test_found(self, tree, folder, name):
        assert masked(relayout(tree, folder, name)) == pytest.approx([CENTER] * 12)

    @pytest.mark.parametrize("name", ["{}.jpg", "{}_mask.JPG", "{}.webp"])
    def test_lossy(self, tree, name):
        """One warning, and the object is as large as it was drawn."""
        data = relayout(tree, "masks", name)
        with pytest.warns(
            UserWarning, match="lossy format are cut at half of their largest value, as .*0[._]"
        ) as given:
            assert masked(data) == pytest.approx([CENTER] * 12, abs=0.01)
        assert len(given) == 1

    def test_foreign_and_long_names(self, tmp_path):
        for name in ("\u732b \U0001f431 [1] %d", "e\u0301", "x" * 240):
            save_image(tmp_path / "images" / "\u52d5\u7269 *" / f"{name}.jpg", 7)
            save_mask(tmp_path / "masks" / "\u52d5\u7269 *" / f"{name}_mask.png")
        assert masked(FolderDataset(str(tmp_path), "all", 40)) == pytest.approx([CENTER] * 3)

    def test_two_pictures_of_one_name(self, tree):
        """Two pictures cannot share a mask, but each may have one that says which it belongs to."""
        save_image(tree / "images" / "cat" / "1.png", 9)
        with pytest.raises(
            ValueError, match=r"a mask for every picture, as <name>\.jpg\.png .*one for several.*cat/1\.png"
        ):
            FolderDataset(str(tree), "all")
        save_mask(tree / "masks" / "cat" / "1.png.png", np.roll(MASK, 4, 0))
        data = FolderDataset(str(tree), "all", 40)
        tops = {data[i].id[-5:]: int(data[i].mask[0].any(1).nonzero()[0]) for i in range(3)}
        assert tops == {"0.jpg": 10, "1.jpg": 10, "1.png": 14}

    def test_two_masks_of_one_name(self, tree):
        save_mask(tree / "masks" / "cat" / "1.bmp")
        with pytest.raises(ValueError, match=r"`root` must hold one mask for a picture, but got .*1\.bmp.*1\.png"):
            FolderDataset(str(tree), "all")

    def test_what_is_no_picture(self, tree):
        """Neither what macOS puts beside a picture, nor a folder, nor a link to nowhere."""
        (tree / "images" / "cat" / "._1.jpg").write_bytes(b"Mac OS X")
        (tree / "images" / "cat" / "folder.jpg").mkdir()
        (tree / "images" / "cat" / "link.jpg").symlink_to("nowhere.jpg")
        assert len(FolderDataset(str(tree), "all")) == 12

    def test_pictures_elsewhere(self, tree):
        save_image(tree / "images" / "cat" / "tabby" / "1.jpg", 9)
        save_image(tree / "images" / "1.jpg", 9)
        with pytest.warns(UserWarning, match=r"2 pictures below .*images are left out, .*images/1\.jpg") as given:
            assert len(FolderDataset(str(tree), "all")) == 12
        assert given[0].filename == __file__


class TestMissingMasks:
    def test_a_few(self, tree):
        for name in ("dog/0.png", "dog/4.png"):
            (tree / "masks" / name).unlink()
        looked = r"images/dog/0\.jpg the names 0\.jpg\.<ext>, 0\.<ext>, 0_mask\.<ext> .* masks/dog and mask/dog"
        with pytest.warns(UserWarning, match=f"2 of 12 pictures have no mask: for {looked}") as given:
            data = FolderDataset(str(tree), "all", 40)
        assert given[0].filename == __file__
        assert data.no_masks == ""
        assert masked(data) == pytest.approx([CENTER] * 6 + [0] + [CENTER] * 3 + [0] + [CENTER])

    def test_all(self, tree):
        """What needs masks is refused, with the names that were looked for; what does not is computed."""
        with pytest.warns(UserWarning, match="12 of 12 pictures have no mask"):
            data = relayout(tree, "masks", "{}-object.png")
        model, options = build_model("tiny_cnn", 2), {"methods": ["saliency"], "progress": False}
        names = r"0\.jpg\.<ext>, 0\.<ext>, 0_mask\.<ext> were looked for"
        with pytest.raises(ValueError, match=rf"`metrics` must need no masks .*{names}.*\['iou'\]"):
            evaluate(model, data, metrics=["iou", "sparseness"], **options)
        with pytest.raises(ValueError, match=rf"`backgrounds` must need no masks .*{names}.*\['only_fg'\]"):
            evaluate_reliance(model, data, backgrounds=["only_fg"], progress=False)
        for objective in (SIBConfig.recommended("given"), GuidanceConfig("energy", 1.0)):
            config = TrainConfig(objective, epochs=1, batch_size=4)
            with pytest.raises(ValueError, match=rf"`objective` must need no masks .*{names}"):
                fine_tune(model, data, config=config, progress=False)
        assert evaluate(model, data, metrics=["sparseness"], **options).rows["value"].notna().all()

    def test_what_was_computed_says_how_many_there_are(self, tree, tmp_path_factory):
        """Results in memory and in a folder, their report, and every epoch of a training."""
        for name in ("dog/0.png", "dog/4.png"):
            (tree / "masks" / name).unlink()
        with pytest.warns(UserWarning, match="2 of 12 pictures have no mask"):
            data = FolderDataset(str(tree), "all", 40)
        model, folder = build_model("tiny_cnn", 2), tmp_path_factory.mktemp("out")
        options = {
            "methods": ["control_center"],
            "metrics": ["iou"],
            "batch_size": 5,
            "progress": False,
        }
        results = evaluate(model, data, **options)
        assert (results.info["images"], results.info["masked"]) == (12, 10)
        assert evaluate(model, data, out_dir=folder, **options).info["masked"] == 10
        assert evaluate_reliance(model, data, backgrounds=["only_fg"], progress=False).info["masked"] == 10
        assert "10 of them with a mask" in str(data_cards(results))
        config = TrainConfig(SIBConfig.recommended("given"), epochs=2, batch_size=12)
        history = fine_tune(model, data, config=config, progress=False).history
        assert [line["masked"] for line in history] == pytest.approx([10 / 12] * 2)
        plain = replace(config, objective=None)
        assert "masked" not in fine_tune(model, data, config=plain, progress=False).history[0]

    def test_none_were_promised(self, tree):
        """Without a folder of masks, and with an index that names none, nothing is said before masks are needed."""
        shutil.rmtree(tree / "masks")
        assert "0_mask.<ext>" in FolderDataset(str(tree), "all").no_masks
        index(tree, "images/cat/1.jpg,,cat", "images/cat/2.jpg,,dog")
        data = FolderDataset(str(tree), "all", 40)
        assert "index.csv names none" in data.no_masks
        with pytest.raises(ValueError, match=r"`metrics` must need no masks .*index\.csv names none"):
            evaluate(build_model("tiny_cnn", 2), data, methods=["saliency"], metrics=["iou"], progress=False)

    def test_in_memory(self, tree):
        """A part of a data set, and one with other masks."""
        shutil.rmtree(tree / "masks")
        part = InMemoryDataset.load(FolderDataset(str(tree), "all", 40), range(3))
        assert "0_mask.<ext>" in part.no_masks
        assert part.with_masks(torch.ones(3, 1, 40, 40, dtype=torch.bool)).no_masks == ""

    @pytest.mark.parametrize(("training", "refused"), [("sib", True), ("sib-shuffled", True), ("ce", False)])
    def test_finetune(self, tree, tmp_path_factory, capsys, training, refused):
        shutil.rmtree(tree / "masks")
        out = tmp_path_factory.mktemp("out")
        words = ["finetune", "--dataset", "folder", "--root", str(tree), "--model", "tiny_cnn", "--image-size", "32"]
        words += ["--training", training, "--epochs", "1", "--batch-size", "2", "--out", str(out), "--device", "cpu"]
        assert main(words) == (2 if refused else 0)
        assert ("`training` must need no masks" in capsys.readouterr().err) == refused


def share_of(tmp_path, mask, name="m.png", **options):
    """The share of the object in a mask of 64 x 64 as it is read."""
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    mask.save(tmp_path / name, **options)
    index(tmp_path, f"p.png,{name},a")
    return masked(FolderDataset(str(tmp_path), "all", 64))[0]


OBJECT = np.zeros((64, 64), dtype=np.uint8)
OBJECT[16:48, 8:40] = 255
WHITE = np.full_like(OBJECT, 255)


class TestFormsOfMasks:
    """The object is a quarter of the image, at rows 16..47 and columns 8..39."""

    @pytest.mark.parametrize("color", [0, 255, 90])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", ["m.png", "m.webp", "m.tif"])
    def test_alpha(self, tmp_path, color, channels, name):
        shape = np.stack([np.full_like(OBJECT, color)] * channels + [OBJECT], -1)
        if name == "m.webp":
            shape = shape if channels == 3 else shape[..., [0, 0, 0, 1]]
        assert share_of(tmp_path, Image.fromarray(shape), name) == 0.25

    def test_soft_alpha(self, tmp_path):
        """Half of the largest value."""
        alpha = np.where(OBJECT > 0, 100, 40).astype(np.uint8)
        assert share_of(tmp_path, Image.fromarray(np.stack([WHITE, alpha], -1))) == 0.25

    @pytest.mark.parametrize("alpha", [255, 128, 0])
    def test_alpha_that_says_nothing(self, tmp_path, alpha):
        shape = np.stack([OBJECT] * 3 + [np.full_like(OBJECT, alpha)], -1)
        assert share_of(tmp_path, Image.fromarray(shape)) == 0.25

    @pytest.mark.parametrize("palette", [[0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0], [0] * 6])
    @pytest.mark.parametrize("name", ["m.png", "m.tif"])
    def test_palette(self, tmp_path, palette, name):
        """By the index, whatever the colors are."""
        mask = Image.fromarray(OBJECT // 255).convert("P")
        mask.putpalette(palette)
        assert share_of(tmp_path, mask, name) == 0.25

    def test_a_transparent_palette(self, tmp_path):
        mask = Image.fromarray(OBJECT // 255).convert("P")
        mask.putpalette([9, 9, 9, 255, 0, 0])
        assert share_of(tmp_path, mask, transparency=1) == 0.25

    @pytest.mark.parametrize(
        ("values", "name"),
        [
            (OBJECT / np.float32(510), "m.tif"),
            (-OBJECT.astype(np.int32), "m.tif"),
            (OBJECT.astype(np.uint16) // 255, "m.png"),
            (OBJECT.astype(">u2") * 200, "m.tif"),
            (OBJECT > 0, "m.png"),
            (OBJECT // 255, "m.png"),
        ],
    )
    def test_types(self, tmp_path, values, name):
        assert share_of(tmp_path, Image.fromarray(values), name) == 0.25

    def test_gif(self, tmp_path):
        assert share_of(tmp_path, Image.fromarray(OBJECT), "m.gif") == 0.25

    def test_jpeg(self, tmp_path):
        y, x = np.mgrid[:64, :64]
        disc = (y - 30) ** 2 + (x - 27) ** 2 < 196
        for mask in (disc * 255, disc * 60, np.stack([disc * 255, disc * 0, disc * 0], -1)):
            with pytest.warns(UserWarning, match="lossy"):
                share = share_of(tmp_path, Image.fromarray(mask.astype(np.uint8)), "m.jpg")
            assert share == pytest.approx(disc.mean(), abs=0.01)

    def test_an_empty_jpeg(self, tmp_path):
        with pytest.warns(UserWarning, match="lossy"):
            assert share_of(tmp_path, Image.fromarray(0 * OBJECT), "m.jpg") == 0

    def test_full(self, tmp_path):
        with pytest.warns(UserWarning, match=r"Masks are full, as .*m\.png: non-zero pixels are the object"):
            assert share_of(tmp_path, Image.fromarray(WHITE)) == 1

    def test_inverted(self, tmp_path):
        for mask in (Image.fromarray(255 - OBJECT), Image.fromarray(OBJECT).convert("RGB").quantize(2)):
            with pytest.warns(UserWarning, match=r"look inverted, as .*m\.png, whose object is 100% of the border"):
                assert share_of(tmp_path, mask) == 0.75

    def test_an_object_at_the_border(self, tmp_path):
        half = WHITE * (np.arange(64) < 30)[:, None].astype(np.uint8)  # a little less than half of the border
        assert share_of(tmp_path, Image.fromarray(half)) == 30 / 64

    def test_one_warning_for_many(self, tree):
        for i in range(6):
            save_mask(tree / "masks" / "cat" / f"{i}.png", 1 - MASK)
        with pytest.warns(UserWarning, match=r"inverted, as .*cat/0\.png") as given:
            assert len(masked(FolderDataset(str(tree), "all", 40))) == 12
        assert len(given) == 1

    def test_undefined_pixels_may_lie_on_the_border(self, tree):
        save_mask(tree / "masks" / "cat" / "edge.png", 1 - MASK)
        index(tree, "images/cat/1.jpg,masks/cat/1.png,cat,masks/cat/edge.png", columns="image,mask,label,undefined")
        assert FolderDataset(str(tree), "all", 40)[0].undefined.double().mean() == pytest.approx(1 - CENTER)


class TestClasses:
    @pytest.mark.parametrize(
        ("labels", "order"),
        [("0 1 10 2", "0 1 2 10"), ("007 10 9", "007 9 10"), ("01 1 0", "0 01 1"), ("1 10 2 b", "1 10 2 b")],
    )
    def test_order(self, labels, order):
        assert order_classes(set(labels.split()), None) == tuple(order.split())

    def test_numbers(self, tmp_path):
        for i in range(12):
            save_image(tmp_path / f"{i}.png", 20 * i)
        index(tmp_path, *(f"{i}.png,,{i}" for i in range(12)))
        data = FolderDataset(str(tmp_path), "all", 40)
        assert {data[i].id: data[i].label for i in range(12)} == {f"{i}.png": i for i in range(12)}
        assert [data.label_of(i) for i in range(12)] == [data[i].label for i in range(12)]

    def test_given(self, tree):
        """More than the data set has, in the order of a model."""
        data = build_dataset("folder", str(tree), "all", 40, classes=["dog", "cow", "cat"])
        assert data.classes == ("dog", "cow", "cat")
        assert (data[0].label, data[11].label) == (2, 0)

    @pytest.mark.parametrize(
        ("classes", "rule"),
        [
            (["cat", "cow"], r"name all labels, but got .*\['cat', 'cow'\] without \['dog'\]"),
            (["cat", "dog", "cat"], "be names of classes, none twice"),
            ([], "be names of classes"),
            ("cat", "be names of classes, none twice, but got 'cat'"),
        ],
    )
    def test_errors(self, tree, classes, rule):
        with pytest.raises(ValueError, match=f"`classes` must {rule}"):
            FolderDataset(str(tree), "all", classes=classes)


def index(root, *rows, columns="image,mask,label"):
    (root / "index.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")


class TestIndex:
    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            (
                "images/cat/1.jpg,,cat,Train,",
                "a split of train, val, test, or none, but got \"'Train' for images/cat/1.jpg",
            ),
            ("images/cat/1.jpg,,cat,testing,", "a split of .*'testing' for"),
            ("images/cat/1.jpg,, ,train,", "a label for every picture, but got \"'' for images/cat/1.jpg"),
            ("images/cat/1.jpg", "a label for every picture"),
            ("images/cat/1.jpg,,cat,train,x", "whole numbers, but got \"'x' for"),
            ("images/cat/1.jpg,,cat,train,1.5", "whole numbers, but got \"'1.5' for"),
        ],
    )
    def test_cells(self, tree, row, problem):
        index(tree, row, columns="image,mask,label,split,group")
        with pytest.raises(ValueError, match=f"`root` must hold an index.csv with {problem}"):
            FolderDataset(str(tree), "train")

    def test_forms_that_programs_write(self, tree):
        """Spaces around cells, whole numbers with a point, and the mark at the beginning of a file from Excel."""
        rows = ["images/cat/1.jpg, masks/cat/1.png, cat , train, 1.0", "images/cat/2.jpg,,cat,,"]
        index(tree, *rows, columns="\ufeffimage,mask, label,split,group")
        with pytest.warns(UserWarning, match="1 of 2 pictures have no mask"):
            data = FolderDataset(str(tree), "all", 40)
        assert data.classes == ("cat",)
        assert [data[i].group for i in range(2)] == [1, -1]
        assert masked(data) == pytest.approx([CENTER, 0])

    @pytest.mark.parametrize("content", [b"", "image,mask,label\nä.jpg,,a".encode("latin-1"), "image".encode("utf-16")])
    def test_files_that_are_none(self, tree, content):
        (tree / "index.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"`root` must hold an index.csv in UTF-8, but got .*index\.csv"):
            FolderDataset(str(tree), "all")


@pytest.mark.parametrize("column", ["image", "mask", "undefined"])
def test_an_index_leads_nowhere_else(tree, column, monkeypatch):
    """Neither up nor by a whole path, even to a file that is there; whole paths below root are fine."""
    outside = tree.parent / "secret.png"
    save_mask(outside)
    (tree / "link.png").symlink_to(outside)  # who may put links into root may put anything there
    row = {"image": "images/cat/0.jpg", "mask": "masks/cat/0.png", "undefined": "", "label": "x", "split": "train"}

    def write(value):
        pd.DataFrame([{**row, column: value}]).to_csv(tree / "index.csv", index=False)

    monkeypatch.chdir(tree)
    for value in ("../secret.png", "images/../../secret.png", str(outside), "/etc/passwd", ".."):
        write(value)
        for root in (str(tree), "."):
            with pytest.raises(ValueError, match=r"`root` must hold an index.csv that names files in root only, but"):
                FolderDataset(root, "train")
    for value in (str(tree / row["mask"]), "images/../masks/cat/0.png", "link.png"):
        write(value)
        assert FolderDataset(".", "train", 16)[0].photo
