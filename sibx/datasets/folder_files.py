"""Which pictures, masks, labels and splits a folder of the user's own holds."""

import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from sibx._checks import require

SPLITS = ("train", "val", "test")
ENDINGS = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".jp2", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm"),
}
INDEX, MASK_FOLDERS, SUFFIX = "index.csv", ("masks", "mask"), "_mask"
CLASSES = "classes.txt"  # beside the index or the folders: names in the order of a model's outputs, one a line
WHOLE = re.compile(r"-?\d+(\.0*)?")  # a number of a group; pandas writes 1.0 in a column with empty cells
LAYOUT = (
    "<root>/images/<class>/<name>.<ext> with <root>/masks/<class>/<name>.<ext> or <name>_mask.<ext> (non-zero = "
    "object), or <root>/index.csv with the columns image,mask,label[,split,group,undefined]"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture with one label.

    Attributes:
        image: the picture.
        mask: file with its mask; None = there is none.
        label: name of the class.
        split: train, val or test.
        group: index of a subpopulation, or -1.
        undefined: file with the pixels of which it is not known whether they are object; None = there is none.
    """

    image: Path
    mask: Path | None
    label: str
    split: str
    group: int = -1
    undefined: Path | None = None


def find_entries(root: Path) -> list[Entry]:
    """Return what index.csv lists, or without one what the folders hold."""
    return list(_from_index(root) if (root / INDEX).is_file() else _from_tree(root))


def listed_classes(root: Path) -> list[str] | None:
    """Return the classes that classes.txt lists, in its order; None without the file."""
    path = root / CLASSES
    if not path.is_file():
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"`root` must hold a {CLASSES} in UTF-8, but got {str(path)!r}: {error}") from error


def order_classes(labels: set[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the classes in order: as given, else numbers by their value, else names by their letters."""
    if classes is None:
        numbers = all(re.fullmatch(r"\d+", label) for label in labels)
        return tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))
    named = [] if isinstance(classes, str) else [str(name) for name in classes]
    require(len(set(named)) == len(named) > 0, "classes", "be names of classes, none twice", classes)
    require(labels <= set(named), "classes", "name all labels", f"{named} without {sorted(labels - set(named))}")
    return tuple(named)


def say_what_is_missing(root: Path, entries: list[Entry]) -> str:
    """Return in words why no picture has a mask, "" if one has; warn of a few that are missing beside others."""
    missing = [entry for entry in entries if entry.mask is None]
    if not missing:
        return ""
    if (root / INDEX).is_file():
        if len(missing) == len(entries):
            return f"{root / INDEX} names none"
        empty = f"the cell `mask` of {missing[0].image.relative_to(root).as_posix()} is empty in {root / INDEX}"
        warnings.warn(f"{len(missing)} of {len(entries)} pictures have no mask: {empty}.", stacklevel=3)
        return ""
    first = missing[0].image
    names = ", ".join(f"{name}.<ext>" for name in _mask_names(first))
    places = " and ".join(f"{folder}/{first.parent.name}" for folder in MASK_FOLDERS)
    looked = f"for {first.relative_to(root).as_posix()} the names {names} were looked for in {places} below {root}"
    if any((root / folder).is_dir() for folder in MASK_FOLDERS):
        warnings.warn(f"{len(missing)} of {len(entries)} pictures have no mask: {looked}.", stacklevel=3)
    return looked if len(missing) == len(entries) else ""


def _from_tree(root: Path) -> Iterator[Entry]:
    pictures = _pictures(root / "images")
    masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder in MASK_FOLDERS:
        for path in _pictures(root / folder):
            masks[path.parent.name, path.stem].append(path)
    found = {image: _find_mask(image, masks) for image in pictures}
    shared = [str(mask) for mask, count in Counter(filter(None, found.values())).items() if count > 1]
    rule = "hold a mask for every picture, as <name>.jpg.png where names differ by their endings only"
    require(not shared, "root", rule, f"one for several pictures: {shared[:3]}")
    for image, mask in found.items():
        name = image.relative_to(root).as_posix()
        yield Entry(image=image, mask=mask, label=image.parent.name, split=_hashed_split(name))


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures of all classes; one that lies elsewhere is left out with a warning."""
    good = [path for path in sorted(folder.glob("*/*")) if _is_picture(path)]
    elsewhere = sorted({path for path in folder.rglob("*") if _is_picture(path)} - set(good))
    if elsewhere:
        kind = f"{len(elsewhere)} pictures below {folder} are left out, which lie in no folder <class>"
        warnings.warn(f"{kind}, as {elsewhere[0]}.", stacklevel=5)
    return good


def _is_picture(path: Path) -> bool:
    # macOS puts ._x.jpg beside x.jpg.
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def _mask_names(image: Path) -> tuple[str, ...]:
    """Return the names, without ending, that the mask of a picture may have, the most special one first."""
    return image.name, image.stem, f"{image.stem}{SUFFIX}"


def _find_mask(image: Path, masks: Mapping[tuple[str, str], list[Path]]) -> Path | None:
    label = image.parent.name
    for name in _mask_names(image):
        found = masks.get((label, name), [])
        require(len(found) < 2, "root", "hold one mask for a picture", [str(path) for path in found])
        if found:
            return found[0]
    return None


def _from_index(root: Path) -> Iterator[Entry]:
    path = root / INDEX
    try:
        content = path.read_bytes()
        if b"\0" in content:  # what comes after one is lost or not, by the version of pandas
            raise ValueError("NUL bytes")
        table = pd.read_csv(BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True).fillna("")
    except ValueError as error:  # another encoding, an empty file, rows that are too long
        raise ValueError(f"`root` must hold an {INDEX} in UTF-8, but got {str(path)!r}: {error}") from error
    missing = {"image", "mask", "label"} - set(table.columns)
    require(not missing, "root", f"hold an {INDEX} with the columns {sorted(missing)}", list(table.columns))
    for row in table.to_dict("records"):
        cells = {str(name): str(cell).strip() for name, cell in row.items()}
        yield Entry(
            image=_existing(root, cells["image"]),
            mask=_existing(root, cells["mask"]) if cells["mask"] else None,
            label=_checked(cells, "label", "a label for every picture", bool(cells["label"])),
            split=_read_split(cells),
            group=_read_group(cells),
            undefined=_existing(root, cells["undefined"]) if cells.get("undefined") else None,
        )


def _read_split(cells: Mapping[str, str]) -> str:
    if not cells.get("split"):
        return _hashed_split(cells["image"])
    return _checked(cells, "split", f"a split of {', '.join(SPLITS)}, or none", cells["split"] in SPLITS)


def _read_group(cells: Mapping[str, str]) -> int:
    text = cells.get("group") or "-1"
    return int(float(_checked({**cells, "group": text}, "group", "whole numbers", bool(WHOLE.fullmatch(text)))))


def _checked(cells: Mapping[str, str], column: str, rule: str, good: bool) -> str:
    """Return a cell of index.csv, or say for which picture it breaks the rule."""
    require(good, "root", f"hold an {INDEX} with {rule}", f"{cells[column]!r} for {cells['image']}")
    return cells[column]


def _existing(root: Path, name: str) -> Path:
    """Return a file that the index names, which has to lie below root: an index of others reads nothing else."""
    inside = Path(os.path.relpath(root / name, root))  # links in root are the user's own: they may lead anywhere
    outside = inside.is_absolute() or inside.parts[:1] == (os.pardir,)
    require(not outside, "root", f"hold an {INDEX} that names files in root only", name)
    require((root / inside).is_file(), "root", f"hold every file that {INDEX} names", name)
    return root / inside


def _hashed_split(name: str) -> str:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.6 else "val" if share < 0.8 else "test"
