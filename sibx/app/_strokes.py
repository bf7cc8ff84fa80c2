"""What was drawn on a picture, and the mask that it makes.

To add a kind of drawing: a record with ``draw``, and its word in KINDS.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from sibx._checks import check_choice, require
from sibx.images.reading import check_size, naming
from sibx.objectives.own_masks.grab_cut import cut_from

UNTOUCHED, HERE, AWAY = 0, 1, 2  # what is known of a pixel
MOST_POINTS = 20_000  # of one stroke: a minute of drawing
LARGEST = 4096.0  # pixels: size of a brush

Labels = npt.NDArray[np.uint8]  # (H, W) of UNTOUCHED, HERE, AWAY
Mask = npt.NDArray[np.bool_]  # (H, W)
Rest = Literal["away", "cut", "open"]
RESTS: Mapping[Rest, str] = {
    "away": "is not the object",
    "cut": "is divided along the edges (GrabCut)",
    "open": "is left open",
}


class Drawn(NamedTuple):
    """What strokes say of a picture.

    Attributes:
        mask: True where the network may look.
        undefined: True where nobody has said anything.
        missing: what has to be drawn before a network can learn from it, in words; "" = nothing.
    """

    mask: Mask
    undefined: Mask
    missing: str


@dataclass(frozen=True, slots=True)
class Brush:
    """One pull of the brush: all pixels whose centers lie at most half its size from its way.

    Attributes:
        here: whether the object is there.
        points: its way, (x, y) in pixels from the upper left corner.
        size: diameter in pixels.

    Raises:
        ValueError: no point, too many, or a size that is not positive.
    """

    kind: ClassVar[str] = "brush"
    here: bool
    points: Sequence[tuple[float, float]]
    size: float

    def __post_init__(self) -> None:
        _check_points(self.points, 1, MOST_POINTS)
        require(0 < self.size <= LARGEST, "size", f"be more than 0 and at most {LARGEST:g} pixels", self.size)

    def draw(self, labels: Labels) -> None:
        """Draw it on what was drawn before."""
        points = np.asarray(self.points, dtype=np.float64)
        for first, second in zip(points, points[1:] if len(points) > 1 else points, strict=False):
            self._draw_line(labels, first, second)

    def _draw_line(self, labels: Labels, first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> None:
        radius, ends = self.size / 2, np.stack([first, second])
        left, top = np.maximum(np.floor(ends.min(0) - radius), 0).astype(int)
        right, bottom = np.maximum(np.ceil(ends.max(0) + radius), 0).astype(int)
        window = labels[top:bottom, left:right]
        y, x = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]] + 0.5
        along = second - first
        length = float(along @ along)
        share = ((x - first[0]) * along[0] + (y - first[1]) * along[1]) / length if length else np.zeros_like(x)
        share = share.clip(0, 1)
        distance = np.hypot(x - first[0] - share * along[0], y - first[1] - share * along[1])
        window[distance <= radius] = HERE if self.here else AWAY


@dataclass(frozen=True, slots=True)
class Box:
    """A box: all pixels whose centers lie in it.

    Attributes:
        here: whether the object is there.
        points: two opposite corners, (x, y) in pixels from the upper left corner.

    Raises:
        ValueError: another number of corners.
    """

    kind: ClassVar[str] = "box"
    here: bool
    points: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        _check_points(self.points, 2, 2)

    def draw(self, labels: Labels) -> None:
        """Draw it on what was drawn before."""
        corners = np.asarray(self.points, dtype=np.float64)
        left, top = np.maximum(np.ceil(corners.min(0) - 0.5), 0).astype(int)
        right, bottom = np.maximum(np.floor(corners.max(0) - 0.5) + 1, 0).astype(int)
        labels[top:bottom, left:right] = HERE if self.here else AWAY


@dataclass(frozen=True, slots=True)
class Imported:
    """A mask that was there already: what is not the object in it is not here.

    Attributes:
        png: the mask as a PNG file of the picture's size, in base 64.

    Raises:
        ValueError: it is none.
    """

    kind: ClassVar[str] = "mask"
    png: str

    def __post_init__(self) -> None:
        self._read()

    @classmethod
    def of(cls, mask: Mask) -> "Imported":
        """Keep a mask (H, W)."""
        return cls(base64.b64encode(png_of(mask)).decode())

    def draw(self, labels: Labels) -> None:
        """Draw it in the place of what was drawn before."""
        mask = self._read()
        require(mask.shape == labels.shape, "mask", f"be of the picture's size {labels.shape}", mask.shape)
        labels[:] = np.where(mask, HERE, AWAY)

    def _read(self) -> Mask:
        try:
            file = io.BytesIO(base64.b64decode(self.png, validate=True))
            with naming("of a mask"), Image.open(file, formats=["PNG"]) as picture:
                check_size(picture)
                return np.asarray(picture.convert("L")) > 0
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"`mask` must be a PNG file in base 64, but got another text: {error}.") from error


Stroke = Brush | Box | Imported
KINDS: Mapping[str, type[Stroke]] = {kind.kind: kind for kind in (Brush, Box, Imported)}


def to_plain(stroke: Stroke) -> dict[str, Any]:
    """Return a stroke as JSON has it."""
    return {"kind": stroke.kind, **asdict(stroke)}


def read_stroke(plain: object) -> Stroke:
    """Return the stroke that JSON holds; it may come from anybody.

    Raises:
        ValueError: it is none.
    """
    require(isinstance(plain, Mapping), "stroke", "be an object of JSON", plain)
    assert isinstance(plain, Mapping)
    values = dict(plain)
    kind = str(values.pop("kind", None))
    check_choice("kind", kind, tuple(KINDS))
    wanted = [field.name for field in fields(KINDS[kind])]
    require(set(values) == set(wanted), "stroke", f"have kind, {', '.join(wanted)}", sorted(map(str, values)))
    try:
        if "points" in values:
            values["points"] = [(float(x), float(y)) for x, y in values["points"]]
        if "here" in values:
            require(isinstance(values["here"], bool), "here", "be true or false", values["here"])
        if "size" in values:
            values["size"] = float(values["size"])
    except (OverflowError, TypeError) as error:
        raise ValueError(f"`stroke` must hold numbers, but got {values!r:.200}: {error}.") from error
    return KINDS[kind](**values)


def labels_of(strokes: Sequence[Stroke], size: tuple[int, int]) -> Labels:
    """Return what strokes say of every pixel of a picture of this size (H, W); the later one counts."""
    labels = np.full(size, UNTOUCHED, dtype=np.uint8)
    for stroke in strokes:
        stroke.draw(labels)
    return labels


def draw_mask(strokes: Sequence[Stroke], picture: npt.NDArray[np.uint8], rest: Rest) -> Drawn:
    """Return the mask that strokes make.

    Args:
        strokes: what was drawn, in its order.
        picture: the picture (H, W, 3), whose edges ``cut`` follows.
        rest: what is true of pixels that no stroke touched: they are ``away`` (not the object), ``cut`` (divided into
            object and background along the edges of the picture, from the strokes; outside of boxes that say "here"
            all is background), or ``open``: the network may look there, and no score counts them.
    """
    check_choice("rest", rest, get_args(Rest))
    size = (picture.shape[0], picture.shape[1])
    labels = labels_of(strokes, size)
    nothing = np.zeros(size, dtype=bool)
    here, away, untouched = labels == HERE, labels == AWAY, labels == UNTOUCHED
    if rest == "open":
        lack = "" if away.any() and not away.all() else "Mark something that is not here, and not all of it."
        return Drawn(~away, untouched, lack)
    if not here.any():
        return Drawn(nothing, nothing, "Mark where the network should look (here).")
    return Drawn(_cut(labels, strokes, picture) if rest == "cut" else here, nothing, "")


def png_of(mask: Mask) -> bytes:
    """Return a mask (H, W) as a PNG file of 0 and 255."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


def _cut(labels: Labels, strokes: Sequence[Stroke], picture: npt.NDArray[np.uint8]) -> Mask:
    """Divide what no stroke touched; pixels of boxes are only likely the object, unless that is all there is."""
    boxes = [stroke for stroke in strokes if isinstance(stroke, Box) and stroke.here]
    boxed = labels_of(boxes, labels.shape) == HERE
    painted = labels_of([stroke for stroke in strokes if stroke not in boxes], labels.shape)
    away = (labels == AWAY) | (~boxed & (labels == UNTOUCHED) if boxes else np.zeros_like(boxed))
    return cut_from(picture, here=(painted == HERE) & (labels == HERE), away=away, likely=boxed & ~away)


def _check_points(points: Sequence[tuple[float, float]], least: int, most: int) -> None:
    good = least <= len(points) <= most and bool(np.isfinite(np.asarray(points, dtype=np.float64)).all())
    rule = f"be {least} points (x, y)" if least == most else f"be {least} to {most} points (x, y)"
    require(good, "points", rule, points)
    require(bool((np.abs(points) <= 1e6).all()), "points", "lie near the picture", points)
