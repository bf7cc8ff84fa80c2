"""The pictures that words of the command line name: files, folders, patterns, and frames of videos."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch
from PIL import Image
from torch import Tensor

from sibx._checks import require
from sibx._files import LONGEST_NAME, shortened
from sibx.images.reading import Once, naming, read_pixels

VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
OVERLAY, MAPS = ".overlay.png", ".maps.npz"  # what `sibx explain` writes beside each other
FRAME = ".frame-{:06d}"  # of a video, before these
SHEET = "contact-sheet-{}.png"  # and, of several pictures, its pages with all of them


@dataclass(frozen=True, slots=True)
class Source:
    """A picture or a video, and the name of what is written about it, which may have folders in it."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file's ending is one of a video."""
        return self.path.suffix.lower() in VIDEOS

    def read(self, frames: int, warn: Once) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and the pixels (3, H, W) in [0, 1] of the picture, or of so many frames of the video.

        Raises:
            OSError: a file that cannot be read, with its name.
        """
        if not self.is_video:
            yield self.name, read_pixels(self.path, warn)
            return
        for number, pixels in read_frames(self.path, frames):
            yield self.name + FRAME.format(number), pixels


def find_pictures(words: Sequence[str]) -> list[Source]:
    """Return the pictures and videos that words name, in their order.

    A word is a file, a folder (all pictures and videos in it and in the folders in it, by name) or a pattern with
    ``*``, ``?`` or ``[...]`` (``**`` = any folders). What is written about a file is called as the file without its
    ending, or with it where two differ in nothing else, and after its folders too where files of several folders have
    one name. A name that is too long for what is written ends with a hash of it. A file that several words name counts
    once. Hidden files are left out, and what ``sibx explain`` wrote.

    Raises:
        ValueError: a folder or a pattern without pictures, or two files whose results would have one name.
    """
    sources = (source for word in words for source in _of_word(word, several=len(words) > 1))
    found = _apart(list({source.path.absolute(): source for source in sources}.values()))
    plain = Counter(str(Path(source.name).with_suffix("")) for source in found)
    named = [
        replace(source, name=_fitting(source.name if plain[short] > 1 else short))
        for source in found
        for short in [str(Path(source.name).with_suffix(""))]
    ]
    twice = [name for name, count in Counter(source.name for source in named).items() if count > 1]
    rule = "have different names, which name the files in `out`"
    require(not twice, "images", rule, [str(source.path) for source in named if source.name in twice])
    return named


def written_about(file: Path) -> list[str]:
    """Return the names of the pictures and videos about which a file of this name may be written."""
    name = next((file.name.removesuffix(e) for e in (OVERLAY, MAPS) if file.name.endswith(e)), "")
    before, _, number = name.rpartition(FRAME.partition("{")[0])
    return [n for n in (name, before if number.isdigit() else "") if n]


def is_contact_sheet(file: Path) -> bool:
    """Whether a file has the name of a page of a contact sheet."""
    before, after = SHEET.split("{}")
    return file.name.startswith(before) and file.name.removeprefix(before).removesuffix(after).isdigit()


def read_frames(path: Path, count: int) -> Iterator[tuple[int, Tensor]]:
    """Yield frames spread evenly over a video: the number and the pixels (3, H, W) in [0, 1].

    Raises:
        OSError: a file that cannot be read as a video.
    """
    with naming(str(path)):
        total = _count_frames(path)
        wanted = sorted({(2 * i + 1) * total // (2 * count) for i in range(count)})  # the middles of equal parts
    video = cv2.VideoCapture(str(path))
    try:
        for number in range(total):
            if not wanted or not video.grab():  # a damaged end: the frames before it are read
                return
            if number == wanted[0]:
                wanted.pop(0)
                read, frame = video.retrieve()
                if read:
                    yield number, torch.from_numpy(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).permute(2, 0, 1) / 255
    finally:
        video.release()


def _count_frames(path: Path) -> int:
    """Count frames by going through them: what a video's header says may be a guess."""
    require(path.is_file(), "images", "be files", str(path))
    video, total = cv2.VideoCapture(str(path)), 0
    while video.grab():
        total += 1
    video.release()
    if not total:
        raise OSError("no frame of the video can be decoded")
    return total


def _of_word(word: str, *, several: bool) -> list[Source]:
    path = Path(word)
    if path.is_dir():
        above = path.resolve().parent if several else path.resolve()  # several folders: their own names come first
        files = [f for f in sorted(path.resolve().rglob("*")) if _is_picture(f) and not _is_hidden(f, path)]
        require(bool(files), "images", "name folders with pictures", word)
        return [Source(path / f.relative_to(path.resolve()), str(f.relative_to(above))) for f in files]
    if glob.has_magic(word) and not path.exists():
        names = glob.glob(word, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files = [f for f in map(Path, sorted(names)) if _is_picture(f)]
        require(bool(files), "images", "be a pattern of pictures", word)
        return [Source(f, f.name) for f in files]
    return [Source(path, path.name)]


def _apart(sources: Sequence[Source]) -> list[Source]:
    """Put folders before the names of files that have one name, from the folder on that holds all of them."""
    count, named = Counter(source.name for source in sources), []
    for source in sources:
        name = source.name
        if count[name] > 1:
            same = [other.path.absolute().parent for other in sources if other.name == name]
            name = str(source.path.absolute().relative_to(os.path.commonpath(same)))
        named.append(replace(source, name=name))
    return named


def _fitting(name: str) -> str:
    """Return the name of a source such that the names of all files that are written about it are short enough."""
    longest = LONGEST_NAME - len(FRAME.format(0)) - max(len(OVERLAY), len(MAPS))
    return str(Path(name).with_name(shortened(Path(name).name, longest)))


def _is_picture(file: Path) -> bool:
    """Whether a file's ending is one of pictures or videos, and it is nothing that an earlier run wrote."""
    known = file.suffix.lower() in VIDEOS or file.suffix.lower() in Image.registered_extensions()
    name = file.name.removesuffix(OVERLAY)
    own = (name != file.name and file.with_name(name + MAPS).exists()) or is_contact_sheet(file)
    return known and not own and file.is_file()


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder.resolve()).parts)
