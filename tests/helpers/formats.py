"""Every form in which people have pictures and masks: how it is written, what ``folder`` reads, and the page of it.

    python -m tests.helpers.formats

writes the page ``docs/experiments/formats.md``, which a test holds to what is read.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sibx.datasets import build_dataset

PAGE = Path(__file__).parents[2] / "docs" / "experiments" / "formats.md"
HEIGHT, WIDTH = 48, 64
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[8:32, 16:40] = True  # in the central square, columns 8 to 55, and not in the middle
PICTURE = np.where(MASK[..., None], [200, 40, 40], [40, 40, 200]).astype(np.uint8)  # a red object on blue
GRAY = np.where(MASK, 200, 40).astype(np.uint8)
SQUARE = slice(None), slice(8, 56)
EXACT = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
STORED = {  # EXIF orientation -> how a camera stores a picture that has to be turned so
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown),
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, 3),
}
AS_IT_LOOKS, EXACTLY = "as it looks", "the object exactly"

Writer = Callable[[Path], None]


class Form(NamedTuple):
    """One form: its kind (``picture``, ``mask``, ``name``), what it is, what writes it below a root, what is read."""

    kind: str
    what: str
    write: Writer
    read: str


def picture(ending: str, values: np.ndarray, *, colors: str = "", turn: int = 0) -> Writer:
    """Write the picture, with a mask as it is shown."""

    def write(root: Path) -> None:
        exif = Image.Exif()
        if turn:
            exif[274] = turn
        made = Image.fromarray(np.ascontiguousarray(STORED[turn or 1](values)))
        made = made.quantize(2) if colors == "P" else made.convert(colors) if colors else made
        save(made, root / "images" / "cat" / f"a.{ending}", **({"exif": exif} if turn else {}))
        save(Image.fromarray(MASK), root / "masks" / "cat" / "a.png")

    return write


def mask(ending: str, made: Callable[[], Image.Image], name: str = "masks/cat/a.{}") -> Writer:
    """Write the mask, with a plain picture."""

    def write(root: Path) -> None:
        save(Image.fromarray(PICTURE), root / "images" / "cat" / "a.png")
        save(made(), root / name.format(ending))

    return write


def save(made: Image.Image, path: Path, **options: object) -> None:
    """Write a picture as losslessly as its format can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path, **EXACT.get(path.suffix[1:].lower(), {}), **options)


def with_alpha(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colors (H, W, 3) with an alpha channel (H, W)."""
    return np.dstack([values, alpha]).astype(np.uint8)


def indexed(colors: list[int]) -> Callable[[], Image.Image]:
    """Return a palette mask whose object has the index 1."""

    def made() -> Image.Image:
        image = Image.fromarray(MASK.astype(np.uint8))
        image.putpalette(colors)
        return image

    return made


def of(values: np.ndarray) -> Callable[[], Image.Image]:
    """Return what makes an image of values."""
    return lambda: Image.fromarray(values)


OPAQUE, CLEAR = np.full(MASK.shape, 255), np.where(MASK, 255, 0)
REFUSED = "refused: the picture <root>/images/cat/a.tif cannot be read: "
WHITE_AROUND = (
    "as it looks on white; warns: Transparent parts of pictures are put on white, as in <root>/images/cat/a.png."
)
LOSSY = (
    "the object exactly; warns: Masks in a lossy format are cut at half of their largest value, as "
    "<root>/masks/cat/a.jpg."
)
MEANING = "non-zero pixels are the object, in a palette those whose index is not 0."
INVERTED = (
    "everything but the object; warns: Masks look inverted, as <root>/masks/cat/a.png, whose object is 100% of the "
    f"border: {MEANING}"
)
FULL = f"the whole image; warns: Masks are full, as <root>/masks/cat/a.png: {MEANING}"
OTHER_SIZE = (
    "refused: `root` must hold masks of their image's size, but got 1 of 2 that do not: masks/cat/a.png with (48, 40) "
    "for (48, 64)."
)
MISSING = (
    "no mask is found; warns: 1 of 1 pictures have no mask: for images/cat/a.png the names a.png.<ext>, a.<ext>, "
    "a_mask.<ext> were looked for in masks/cat and mask/cat below <root>."
)

FORMS = (
    *(
        Form("picture", f"8 bits, RGB, .{ending}", picture(ending, PICTURE), AS_IT_LOOKS)
        for ending in ("png", "jpg", "webp", "tif", "bmp")
    ),
    Form("picture", "8 bits, gray (L), .png", picture("png", GRAY), AS_IT_LOOKS),
    Form("picture", "1 bit (1), .png", picture("png", MASK), AS_IT_LOOKS),
    Form("picture", "palette (P), .png", picture("png", PICTURE, colors="P"), AS_IT_LOOKS),
    Form("picture", "CMYK, .tif", picture("tif", PICTURE, colors="CMYK"), AS_IT_LOOKS),
    Form("picture", "16 bits, gray, .png", picture("png", GRAY.astype(np.uint16) * 257), AS_IT_LOOKS),
    Form("picture", "16 bits, gray, .tif", picture("tif", GRAY.astype(np.uint16) * 257), AS_IT_LOOKS),
    Form("picture", "floating point in [0, 1], .tif", picture("tif", (GRAY / 255).astype(np.float32)), AS_IT_LOOKS),
    Form(
        "picture",
        "floating point above 1, .tif",
        picture("tif", GRAY.astype(np.float32)),
        REFUSED + "floating-point values must lie in [0, 1], but got 40 to 200",
    ),
    Form(
        "picture",
        "32-bit integers, .tif",
        picture("tif", GRAY.astype(np.int32) * 1000),
        REFUSED + "32-bit integers from 40000 to 200000 have no known white; save it with 8 or 16 bits",
    ),
    Form("picture", "RGBA, opaque, .png", picture("png", with_alpha(PICTURE, OPAQUE)), AS_IT_LOOKS),
    Form("picture", "RGBA, nothing around the object, .png", picture("png", with_alpha(PICTURE, CLEAR)), WHITE_AROUND),
    *(
        Form("picture", f"EXIF orientation {turn}, .jpg", picture("jpg", PICTURE, turn=turn), AS_IT_LOOKS)
        for turn in STORED
    ),
    Form("mask", "8 bits, 0 and 1, .png", mask("png", of(MASK.astype(np.uint8))), EXACTLY),
    Form("mask", "8 bits, 0 and 255, .png", mask("png", of(255 * MASK.astype(np.uint8))), EXACTLY),
    Form("mask", "1 bit, .png", mask("png", of(MASK)), EXACTLY),
    Form("mask", "16 bits, 0 and 1, .png", mask("png", of(MASK.astype(np.uint16))), EXACTLY),
    Form("mask", "32-bit integers, .tif", mask("tif", of(MASK.astype(np.int32))), EXACTLY),
    Form("mask", "floating point, 0 and .5, .tif", mask("tif", of(0.5 * MASK.astype(np.float32))), EXACTLY),
    Form("mask", "colors on black, .png", mask("png", of(PICTURE * MASK[..., None].astype(np.uint8))), EXACTLY),
    Form("mask", "palette, index 0 black, .png", mask("png", indexed([0, 0, 0, 255, 0, 0])), EXACTLY),
    Form("mask", "palette, index 0 white, .png", mask("png", indexed([255, 255, 255, 0, 0, 0])), EXACTLY),
    Form("mask", "RGBA, the shape in alpha, .png", mask("png", of(with_alpha(PICTURE, CLEAR))), EXACTLY),
    Form("mask", "RGBA, opaque, .png", mask("png", of(with_alpha(255 * np.dstack([MASK] * 3), OPAQUE))), EXACTLY),
    Form("mask", "JPEG, .jpg", mask("jpg", of(255 * MASK.astype(np.uint8))), LOSSY),
    Form("mask", "inverted: 255 around the object, .png", mask("png", of(255 * (~MASK).astype(np.uint8))), INVERTED),
    Form("mask", "full, .png", mask("png", of(np.full(MASK.shape, 255, np.uint8))), FULL),
    Form("mask", "empty, .png", mask("png", of(np.zeros(MASK.shape, np.uint8))), "no object"),
    Form("mask", "of another size, .png", mask("png", of(MASK[:, :40])), OTHER_SIZE),
    *(
        Form("name", place.format("png"), mask("png", of(MASK), place), EXACTLY)
        for place in ("masks/cat/a.{}", "mask/cat/a.{}", "masks/cat/a_mask.{}", "masks/cat/a.png.{}")
    ),
    *(
        Form("name", f"masks/cat/a.{ending}", mask(ending, of(255 * MASK.astype(np.uint8))), EXACTLY)
        for ending in ("PNG", "bmp", "tif", "gif")
    ),
    Form("name", "masks/cat/b.png beside images/cat/a.png", mask("png", of(MASK), "masks/cat/b.{}"), MISSING),
)


def read_form(form: Form) -> str:
    """Write a form into a folder, read it as the data set ``folder``, and say what was read."""
    root = Path(tempfile.mkdtemp())
    try:
        form.write(root)
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            try:
                said = _read(root, form.kind)
            except (OSError, ValueError) as error:
                return f"refused: {_plain(str(error), root)}"
        told = [_plain(str(warning.message), root) for warning in given]
        return "; warns: ".join([said, *told])
    finally:
        shutil.rmtree(root)


def _read(root: Path, kind: str) -> str:
    data = build_dataset("folder", root, "all", HEIGHT)
    sample = data[0]
    if data.no_masks:
        return "no mask is found"
    pixels = 255 * data.normalization.inverse(sample.image).permute(1, 2, 0).numpy()
    found = sample.mask[0].numpy()
    if kind == "picture":
        return _describe_picture(pixels)
    return _describe_mask(found)


def _describe_picture(pixels: np.ndarray) -> str:
    """Compare with the picture in its colors, in gray, in black and white, and on white."""
    on_white = np.where(MASK[..., None], PICTURE, 255)
    gray, both = np.dstack([GRAY] * 3), np.dstack([255 * MASK] * 3)
    for shown, words in ((PICTURE, ""), (gray, ""), (both, ""), (on_white, " on white")):
        if np.abs(pixels - shown[SQUARE]).mean() < 4:
            return AS_IT_LOOKS + words
    return f"something else: {np.abs(pixels - PICTURE[SQUARE]).mean():.0f} gray levels away"


def _describe_mask(found: np.ndarray) -> str:
    shown = MASK[SQUARE]
    wrong = int((found != shown).sum())
    if not found.any() or found.all():
        return "the whole image" if found.all() else "no object"
    if wrong == shown.size:
        return "everything but the object"
    if wrong == 0:
        return EXACTLY
    return "the object to within a few pixels" if wrong < 0.1 * shown.sum() else f"{wrong} pixels wrong"


def _plain(message: str, root: Path) -> str:
    return message.replace(str(root), "<root>")


def page() -> str:
    """Return the page: a table of every kind of form, what each is, and what is read."""
    titles = {"picture": "Pictures", "mask": "Masks", "name": "Where a mask is found"}
    lines = [
        "# Pictures and masks: every form, and what is read",
        "",
        "What `folder` reads of a picture of a red object on blue and of its mask, in every form in which people have",
        "them. Written by `python -m tests.helpers.formats`; a test holds every line to what is read.",
    ]
    for kind, title in titles.items():
        lines += ["", f"## {title}", "", "| form | what is read |", "|---|---|"]
        lines += [f"| {form.what} | {form.read.replace('<', '&lt;')} |" for form in FORMS if form.kind == kind]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
