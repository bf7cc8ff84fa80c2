"""Masks drawn by hand: what a stroke covers, that nothing is lost, and that nobody writes over somebody else's."""

import base64
import json
import os
import signal
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from sibx import build_dataset
from sibx._files import write_atomically
from sibx.app import _corrections
from sibx.app._corrections import Corrections, SavedMeanwhileError
from sibx.app._easel import Easel
from sibx.app._strokes import AWAY, HERE, Box, Brush, Imported, draw_mask, labels_of, read_stroke, to_plain
from sibx.datasets import SyntheticDataset
from sibx.runs import alone

SIZE = 32
# A PNG file of a few bytes whose header says 30000 x 30000 pixels.
CHUNKS = {b"IHDR": struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0), b"IDAT": zlib.compress(b"0"), b"IEND": b""}
HUGE = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    for kind, content in CHUNKS.items()
)
GRAY = np.full((SIZE, SIZE, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def data():
    return SyntheticDataset("train", SIZE, size=6)


def in_disc(x, y, size):
    """Slow form of a dot of the brush."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= size**2 / 4


def test_a_stroke_covers_the_pixels_whose_centers_it_reaches():
    dot = labels_of([Brush(here=True, points=[(9.3, 20.1)], size=7)], (SIZE, SIZE))
    assert ((dot == HERE) == in_disc(9.3, 20.1, 7)).all()
    line = labels_of([Brush(here=False, points=[(-5, 3), (12, 3), (12, 40)], size=4)], (SIZE, SIZE)) == AWAY
    way = [(x, 3.0) for x in np.linspace(-5, 12, 400)] + [(12.0, y) for y in np.linspace(3, 40, 800)]
    assert (line == np.any([in_disc(x, y, 4) for x, y in way], axis=0)).all()
    box = labels_of([Box(here=True, points=[(20.0, 30.2), (10.6, 4.5)])], (SIZE, SIZE)) == HERE
    assert box[4:30, 11:20].all()
    assert box.sum() == 26 * 9
    later = labels_of([Box(True, [(0, 0), (9, 9)]), Box(False, [(4, 4), (99, 99)])], (SIZE, SIZE))
    assert later[3, 3] == HERE
    assert later[4, 4] == AWAY


def test_what_no_stroke_touched_is_away_or_open_or_cut_along_edges():
    here, away = Box(True, [(4, 4), (8, 8)]), Brush(False, [(30, 30)], 2)
    drawn = draw_mask([here, away], GRAY, "away")
    assert drawn.mask.sum() == 16
    assert not drawn.undefined.any()
    assert draw_mask([away], GRAY, "away").missing
    assert draw_mask([here], GRAY, "open").missing
    left = draw_mask([here, away], GRAY, "open")
    assert (left.mask == ~(labels_of([away], (SIZE, SIZE)) == AWAY)).all()
    assert left.undefined[0, 0]
    assert not left.undefined[5, 5]
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[10:22, 6:18] = (200, 30, 30)  # a red square
    brushed = [Brush(True, [(10, 14), (14, 18)], 3), Brush(False, [(27, 5), (27, 28)], 3)]
    for strokes in (brushed, [Box(True, [(3, 7), (23, 25)])]):
        cut = draw_mask(strokes, picture, "cut").mask
        assert cut[10:22, 6:18].all()
        assert cut.sum() == 144
    assert draw_mask([Imported.of(drawn.mask), here], GRAY, "cut").mask.sum() == 16


@pytest.mark.parametrize(
    ("plain", "named"),
    [
        (3, "`stroke`"),
        ({"kind": "spray"}, "`kind`"),
        ({"kind": "box", "here": True, "points": [[1, 2]]}, "`points`"),
        ({"kind": "box", "here": True, "points": [[1, 2], [3, float("nan")]]}, "`points`"),
        ({"kind": "box", "here": "yes", "points": [[1, 2], [3, 4]]}, "`here`"),
        ({"kind": "brush", "here": True, "points": [[1, 2]], "size": 0}, "`size`"),
        ({"kind": "brush", "here": True, "points": [[1, 2]], "size": 3, "color": 1}, "`stroke`"),
        ({"kind": "brush", "here": True, "points": None, "size": 3}, "`stroke`"),
        ({"kind": "box", "here": True, "points": [[1, 2], [3, 10**400]]}, "`stroke`"),
        ({"kind": "mask", "png": base64.b64encode(b"GIF89a").decode()}, "`mask`"),
        ({"kind": "mask", "png": base64.b64encode(HUGE).decode()}, "`mask`"),
        ({"kind": "mask", "png": None}, "`mask`"),
    ],
)
def test_a_stroke_that_is_none_is_named(plain, named):
    with pytest.raises(ValueError, match=named):
        read_stroke(plain)


def test_strokes_are_kept_in_a_folder_that_every_command_reads(tmp_path, data):
    kept = Corrections(tmp_path / "drawn", data)
    assert kept.count == 0
    strokes = [Box(True, [(4, 4), (20, 20)]), Brush(False, [(12.5, 12.5)], 6)]
    for version, stroke in enumerate(strokes):
        assert kept.add(2, stroke, version).version == version + 1
        assert read_stroke(json.loads(json.dumps(to_plain(stroke)))) == stroke
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((16, 16), 9, np.uint8), 24)).save(mask)  # 64 pixels for a picture of 32
    kept.take_mask(4, mask.read_bytes(), 0)
    for file in (b"no picture", HUGE):
        with pytest.raises(ValueError, match="`mask` must be a file of a picture"):
            kept.take_mask(4, file, 1)
    assert kept.count == 2
    assert Corrections(tmp_path / "drawn", data).corrected() == [2, 4]

    found = build_dataset("folder", str(tmp_path / "drawn"), "train", SIZE, normalization=data.normalization)
    assert found.classes == tuple(sorted({data.classes[data[i].label] for i in (2, 4)}))
    for sample, index in zip(found, (2, 4), strict=True):
        assert (sample.mask[0].numpy() == kept.drawn(index).mask).all()
        assert (sample.image - data[index].image).abs().max() < 0.5 / 255 / 0.2 + 1e-5  # rounded to 8 bits
        assert sample.group == data[index].group
    assert found[0].mask.sum() == 256 - (in_disc(12.5, 12.5, 6)).sum()
    assert found[1].mask[0, 12:20, 12:20].all()
    assert found[1].mask.sum() == 64

    for version in (2, 3):
        kept.undo(2, version)
    assert kept.corrected() == [4]
    assert kept.undo(2, 4).strokes == ()


def test_nobody_draws_over_what_somebody_else_has_saved_meanwhile(monkeypatch, tmp_path, data):
    monkeypatch.setattr(alone, "PATIENCE", 60.0)  # seconds: three at once on a busy machine
    one, other = Corrections(tmp_path, data), Corrections(tmp_path, data)
    one.add(0, Box(True, [(0, 0), (9, 9)]), 0)
    with pytest.raises(SavedMeanwhileError, match="somebody else"):
        other.add(0, Box(True, [(20, 20), (29, 29)]), 0)
    assert len(other.sheet(0).strokes) == 1

    def draw(index):
        kept = Corrections(tmp_path, data)
        for version in range(3):
            kept.add(index, Box(True, [(version, 0), (version + 9, 9)]), version)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, (1, 2, 3)))
    assert sorted(Corrections(tmp_path, data).corrected()) == [0, 1, 2, 3]
    assert [len(one.sheet(i).strokes) for i in range(5)] == [1, 3, 3, 3, 0]
    with pytest.raises(ValueError, match="`out` must hold corrections of"):
        Corrections(tmp_path, SyntheticDataset("val", SIZE, size=6))


def draw_until_killed(folder, data, writes, answers):
    """In a process of its own: draw boxes, and die at the write after so many; says every version that was answered."""
    left = [writes]

    def dies(path, content):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        write_atomically(path, content)

    _corrections.write_atomically = dies
    kept = Corrections(folder, data)
    for version in range(9):
        kept.add(0, Box(True, [(0, 0), (version + 1, 9)]), version)
        os.write(answers, b"!")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to kill are forked")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_server_that_is_killed_anywhere_loses_no_stroke(tmp_path, data):
    for writes in (5, 6, 7, 8):  # before the second version's first write, and behind each of the next
        folder, (answered, answers) = tmp_path / str(writes), os.pipe()
        server = os.fork()
        if server == 0:
            draw_until_killed(folder, data, writes, answers)
        assert os.WTERMSIG(os.waitpid(server, 0)[1]) == signal.SIGKILL
        os.close(answers)
        with os.fdopen(answered) as pipe:
            count = len(pipe.read())
        kept = Corrections(folder, data)
        assert len(kept.sheet(0).strokes) >= count == 1
        mask = np.asarray(Image.open(next((folder / "masks").glob("*.png")))) > 0
        assert (mask == (labels_of(kept.sheet(0).strokes, (SIZE, SIZE)) == HERE)).all()
        assert f",{kept.sheet(0).version}" in (folder / "index.csv").read_text()


def test_the_board_says_what_it_was_asked_in_vain_and_changes_nothing(monkeypatch, tmp_path, data):
    easel = Easel(Corrections(tmp_path, data))
    opened = easel.answer({"do": "open", "picture": 1})
    assert opened["image"].startswith("data:image/png;base64,")
    assert (opened["version"], opened["corrected"], opened["problem"]) == (0, 0, "")
    box = {"kind": "box", "here": True, "points": [[2, 2], [9, 9]]}
    drawn = easel.answer({"do": "stroke", "picture": 1, "version": 0, "stroke": box})
    assert (drawn["version"], drawn["corrected"], drawn["missing"]) == (1, 1, "")
    assert "image" not in drawn
    wrong = {
        "`asked`": None,
        "`picture`": {"do": "open", "picture": 6},
        "`do`": {"do": "delete", "picture": 1},
        "`version`": {"do": "undo", "picture": 1, "version": None},
        "Somebody else": {"do": "undo", "picture": 1, "version": 0},
        "`stroke`": {"do": "stroke", "picture": 1, "version": 1, "stroke": [box]},
        "`rest`": {"do": "rest", "picture": 1, "version": 1, "rest": "maybe"},
        "`mask`": {"do": "mask", "picture": 1, "version": 1, "mask": "not base 64!"},
    }
    for named, asked in wrong.items():
        assert named in easel.answer(asked)["problem"]
    with monkeypatch.context() as patch:
        patch.setattr(Corrections, "picture", lambda *_: (_ for _ in ()).throw(OSError("photo.jpg is broken")))
        unread = easel.answer({"do": "open", "picture": 2})
        assert unread == {"picture": 2, "pictures": 6, "problem": "photo.jpg is broken"}
    left = easel.answer({"do": "rest", "picture": 1, "version": 1, "rest": "open"})
    assert left["missing"].startswith("Mark something that is not here")
    assert (left["version"], left["corrected"]) == (2, 0)
    assert easel.answer({"do": "undo", "picture": 1, "version": 2})["strokes"] == 0
