"""Bad pictures, masks and index files in a folder, and roots that are none of any data set."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sibx import wrap
from sibx.datasets import DATASETS, build_dataset
from tests.helpers.bad_input import Case

SIDE = 16
PIXELS = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
OBJECT = np.zeros((SIDE, SIDE), bool)
OBJECT[4:9, 3:10] = True


def picture(kind: str = "PNG", pixels: np.ndarray = PIXELS) -> bytes:
    """Return the bytes of a picture file."""
    with tempfile.SpooledTemporaryFile() as file:
        Image.fromarray(pixels).save(file, kind)
        file.seek(0)
        return file.read()


def huge() -> bytes:
    """A PNG of a few bytes that says that it has 60,000 x 60,000 pixels."""
    whole = picture()
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + whole[24:29]
    return whole[:12] + head + _checksum(head) + whole[33:]


def _checksum(part: bytes) -> bytes:
    import zlib

    return zlib.crc32(part).to_bytes(4, "big")


Writer = Callable[[Path], object]  # writes something at a path
FILES: dict[str, Writer] = {  # what may stand where a picture should
    "zero bytes": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(picture()[:200]),
    "a text": lambda path: path.write_text("no picture"),
    "a JPEG that is called .png": lambda path: path.write_bytes(picture("JPEG")),
    "a directory": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere.png"),
    "60,000 x 60,000 pixels in a few bytes": lambda path: path.write_bytes(huge()),
    "1 x 1 pixels": lambda path: path.write_bytes(picture(pixels=PIXELS[:1, :1])),
    "1 x 2000 pixels": lambda path: path.write_bytes(picture(pixels=np.resize(PIXELS, (1, 2000, 3)))),
}
NAMES = {  # what a picture may be called
    "with signs of all kinds": "é日本 '\"&<b>$(x);=1+1.png",
    "of 255 bytes": "a" * 251 + ".png",
    "._x.png, as macOS writes beside x.png": "._x.png",
    "with an upper-case ending": "a.PNG",
    "with a line break": "a\nb.png",
}
INDEX = "image,mask,label\n"
INDEXES: dict[str, bytes] = {
    "of zero bytes": b"",
    "without rows": INDEX.encode(),
    "in UTF-16": (INDEX + "a.png,,cat\n").encode("utf-16"),
    "in Latin-1": (INDEX + "a.png,,caf\xe9\n").encode("latin-1"),
    "without a column": b"image,mask\na.png,\n",
    "with a row that is too long": (INDEX + "a.png,,cat,1,2\n").encode(),
    "with a row that is too short": (INDEX + "a.png\n").encode(),
    "without a label": (INDEX + "a.png,,\n").encode(),
    "of a picture that is missing": (INDEX + "b.png,,cat\n").encode(),
    "of a mask that is missing": (INDEX + "a.png,b.png,cat\n").encode(),
    "of a picture outside the root": (INDEX + "../../etc/passwd,,cat\n").encode(),
    "of a picture twice": (INDEX + "a.png,,cat\na.png,,cat\n").encode(),
    "with a group that is no number": b"image,mask,label,group\na.png,,cat,x\n",
    "with an unknown split": b"image,mask,label,split\na.png,,cat,Training\n",
    "with NUL bytes": b"image,mask,label\na.png\0,,cat\n",
}


def file_cases() -> Iterator[Case]:
    """Yield the cases of the data set folder, of all data sets, and of wrapped ones."""
    for given, write in FILES.items():
        yield Case("pictures of a folder", "a picture", given, {"folder": partial(_read, write, "images/cat/a.png")})
        yield Case("masks of a folder", "a mask", given, {"folder": partial(_read, write, "masks/cat/a.png")})
    for given, name in NAMES.items():
        calls = {"folder": partial(_read, lambda path: path.write_bytes(picture()), f"images/cat/{name}")}
        yield Case("pictures of a folder", "a name", given, calls)
    for given, content in INDEXES.items():
        yield Case("index.csv", "the file", given, {"folder": partial(_read_index, content)})
    others = {name: spec for name, spec in DATASETS.items() if name != "synthetic"}
    for given, root in {"None": None, "a folder that is missing": "nowhere", "empty": ".", "a file": "file"}.items():
        yield Case("data sets", "root", given, {name: partial(_open, name, root) for name in others})
    calls = {name: partial(build_dataset, name, None, "no split") for name in DATASETS}
    yield Case("data sets", "split", "unknown", calls)
    for given, items in ITEMS.items():
        yield Case("wrapped data sets", "dataset", given, {"wrap": partial(_wrap, items)})


def in_folder(act: Callable[[Path], str]) -> str:
    """Act in a folder that is removed in the end; errors call it <root>."""
    root = Path(tempfile.mkdtemp())
    try:
        return act(root)
    except (ValueError, OSError) as error:
        kind = ValueError if isinstance(error, ValueError) else OSError
        raise kind(str(error).replace(str(root), "<root>")) from error
    finally:
        shutil.rmtree(root)


def _read(write: Writer, name: str) -> str:
    def act(root: Path) -> str:
        for folder, content in (("images", picture()), ("masks", picture(pixels=OBJECT))):
            (root / folder / "cat").mkdir(parents=True)
            (root / folder / "cat" / "good.png").write_bytes(content)
            if folder == "masks" and name.startswith("masks"):
                (root / "images" / "cat" / "a.png").write_bytes(picture())
        write(root / name)
        data = build_dataset("folder", root, "all", SIDE)
        places = {data[place].id: place for place in range(len(data)) if "good.png" in str(data.entries[place].image)}
        assert int(data[places["images/cat/good.png"]].mask.sum()) == OBJECT.sum(), "the good picture is harmed"
        others = [data[place] for place in range(len(data)) if place not in places.values()]
        return "handled: read" if others else "handled: left out"

    return in_folder(lambda root: _without_warnings(partial(act, root)))


def _without_warnings(act: Callable[[], str]) -> str:
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        return act() + (", with a warning" if given else "")


def _read_index(content: bytes) -> str:
    def act(root: Path) -> str:
        (root / "a.png").write_bytes(picture())
        (root / "index.csv").write_bytes(content)
        data = build_dataset("folder", root, "all", SIDE)
        return f"handled: {len([data[place] for place in range(len(data))])} read"

    return in_folder(lambda root: _without_warnings(partial(act, root)))


def _open(name: str, root: str | None) -> str:
    def act(folder: Path) -> str:
        (folder / "file").write_text("")
        build_dataset(name, None if root is None else f"{folder}/{root}")
        return "handled: opened"

    return in_folder(act)


ITEMS: dict[str, object] = {
    "nothing (None)": None,
    "empty": [],
    "of numbers": [1],
    "without a label": [(torch.rand(3, 8, 8),)],
    "with a label that is no class": [(torch.rand(3, 8, 8), 9)],
    "with a label below 0": [(torch.rand(3, 8, 8), -1)],
    "with a fraction as label": [(torch.rand(3, 8, 8), 1.5)],
    "of images (H, W)": [(torch.rand(8, 8), 0)],
    "of images without a pixel": [(torch.rand(3, 0, 8), 0)],
    "of images that are NaN": [(torch.rand(3, 8, 8) * torch.nan, 0)],
    "of images that are infinite": [(torch.rand(3, 8, 8) / 0, 0)],
    "of images on the device meta": [(torch.rand(3, 8, 8).to("meta"), 0)],
    "of images of several sizes": [(torch.rand(3, 8, 8), 0), (torch.rand(3, 9, 8), 0)],
    "of images of 1 x 1 pixels": [(torch.rand(3, 1, 1), 0)],
}


def _wrap(items: object) -> str:
    data = wrap(items, classes=["a", "b"], name="mine", split="all")
    return f"handled: {len([data[place] for place in range(len(data))])} read"
