"""COCO's three ways to write a mask: polygons, run lengths, and run lengths packed into a string.

Source: Lin et al., arXiv 1405.0312, and the format's description at https://cocodataset.org/#format-data.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from sibx._checks import require

Mask = NDArray[np.bool_]


class RunLengths(TypedDict):
    """A mask as the lengths of alternating runs of 0 and 1, column by column; a string holds them packed."""

    size: Sequence[int]
    counts: Sequence[int] | str


def decode_segmentation(segmentation: Sequence[Sequence[float]] | RunLengths, size: tuple[int, int]) -> Mask:
    """Return the mask (H, W) of one annotation.

    COCO's own decoder first rounds the corners of polygons to fifths of a pixel. It can differ from this one in pixels
    whose center is closer than a fifth to an outline, nowhere else.

    Args:
        segmentation: polygons ``[x0, y0, x1, y1, ...]``, of which the union is taken, or run lengths
            ``{"size": [H, W], "counts": ...}``.
        size: (H, W) of the image.

    Raises:
        ValueError: a polygon without three corners, or run lengths that do not fill an image of this size.
    """
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, size)
    mask = np.zeros(size, dtype=bool)
    for flat in segmentation:
        good = len(flat) >= 6 and len(flat) % 2 == 0
        require(good, "segmentation", "hold polygons of three corners or more", flat)
        mask |= fill_polygon(np.asarray(flat, dtype=float).reshape(-1, 2), size)
    return mask


def fill_polygon(corners: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """Return the mask (H, W) of a polygon with corners (N, 2), each (x, y) in pixels.

    A pixel is inside if its center (x + 1/2, y + 1/2) is inside: if a line from there to the left crosses the outline
    an odd number of times. As with the boxes of ``draw_boxes``, the left and upper edges belong to a polygon, the right
    and lower edges do not, so that polygons with a common edge share no pixel.
    """
    height, width = size
    (x0, y0), (x1, y1) = corners.T, np.roll(corners, -1, axis=0).T
    # For each edge the rows whose center lies between its ends, all edges in one array.
    first, stop = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (np.minimum(y0, y1), np.maximum(y0, y1)))
    edges = np.repeat(np.arange(len(corners)), stop - first)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(stop - first) - stop, stop - first)
    share = (rows + 0.5 - y0[edges]) / (y1 - y0)[edges]
    crossed = np.clip(np.ceil(x0[edges] + share * (x1 - x0)[edges] - 0.5), 0, width).astype(int)
    crossings = np.bincount(rows * (width + 1) + crossed, minlength=height * (width + 1)).reshape(height, width + 1)
    # Only the parity matters, so eight bits may overflow; they are six times as fast.
    return (np.cumsum(crossings.astype(np.uint8), axis=1, dtype=np.uint8)[:, :width] & 1).astype(bool)


def unpack_counts(packed: str) -> list[int]:
    """Return the run lengths of a packed string.

    A character stands for six bits, its code minus 48: the lower five belong to the number, lowest first, and the sixth
    says that more characters of the number follow. Numbers are signed: the highest bit of the last character is the
    sign. From the fourth number on, each is the difference to the number two places before.
    """
    counts: list[int] = []
    value = shift = 0
    for bits in (ord(character) - 48 for character in packed):
        require(0 <= bits < 64, "counts", "be packed in characters from '0' to 'o'", packed)
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    require(shift == 0, "counts", "end with a complete number", packed)
    return counts


def _decode_runs(runs: RunLengths, size: tuple[int, int]) -> Mask:
    packed = runs["counts"]
    counts = np.array(unpack_counts(packed) if isinstance(packed, str) else packed, dtype=np.int64)
    fits = tuple(runs["size"]) == size and (counts >= 0).all() and counts.sum() == size[0] * size[1]
    rule = f"hold run lengths that fill an image of size {size}"
    require(
        bool(fits), "segmentation", rule, f"size {runs['size']}, sum {counts.sum()}, lowest {counts.min(initial=0)}"
    )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size, order="F")
