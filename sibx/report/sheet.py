"""One picture of any size and what several methods say about it."""

import math
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sibx._checks import check_heatmaps, check_images, check_masks, check_same_batch
from sibx.report.overlay import FONT, draw_overlay, to_numpy

COLUMNS = 5
LONGER = 2.6  # inches of a cell's longer side
NARROWEST = 1.4  # inches between cells of a narrow picture at least, for the titles
GAP, LINE = 0.06, 0.22  # inches between cells, and of a line of text
DPI, FINEST = 200, 600  # pixels per inch of small pictures; of large ones at most


def draw_sheet(pixels: Tensor, heatmaps: Mapping[str, Tensor], title: str = "", mask: Tensor | None = None) -> Figure:
    """Draw a picture, and every map over it, in cells of the picture's proportions, at most five in a row.

    ``figure.savefig(path)`` gives every pixel of the picture one of its own, up to 1,560 on the longer side. Every map
    has its own scale, from 0 to its 99.5 % quantile: brightness says where, not how much. An undefined map (zero
    everywhere or not finite) is left blank and says so.

    Args:
        pixels: the picture (1, 3, H, W) in [0, 1].
        heatmaps: title -> map (1, 1, H, W), at least 0.
        title: what stands over the picture.
        mask: mask (1, 1, H, W) bool, whose outline is drawn in every cell; None = no outline.

    Returns:
        A matplotlib Figure, not registered with pyplot.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    outlined = torch.zeros_like(pixels[:, :1], dtype=torch.bool) if mask is None else mask
    check_images(pixels, "pixels")
    check_masks(outlined, pixels, "mask")
    for name, maps in heatmaps.items():
        check_heatmaps(maps, f"heatmaps[{name!r}]")
        check_same_batch(pixels, heatmaps=maps)
    height, width = pixels.shape[2:]
    figure, cells = _layout(1 + len(heatmaps), width / height, max(height, width))
    picture, outline = to_numpy(pixels)[0], outlined[0, 0].cpu().numpy()
    drawn = [(title, None), *((name, maps[0, 0].cpu().numpy()) for name, maps in heatmaps.items())]
    for cell, (name, heatmap) in zip(cells, drawn, strict=True):
        draw_overlay(cell, picture, outline, heatmap)
        cell.set_title(name, fontsize=FONT, pad=3)
    return figure


def _layout(count: int, proportions: float, longer_side: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many cells, width / height being their proportions."""
    width, height = LONGER * min(1.0, proportions), LONGER * min(1.0, 1 / proportions)
    rows = math.ceil(count / COLUMNS)
    columns, pitch = math.ceil(count / rows), max(width, NARROWEST) + GAP
    total = columns * pitch + GAP, rows * (height + LINE + GAP) + GAP
    dpi = min(max(DPI, longer_side / LONGER), FINEST)
    figure = Figure(figsize=total, dpi=dpi)
    cells = []
    for number in range(count):
        row, column = divmod(number, columns)
        left, bottom = GAP + column * pitch + (pitch - GAP - width) / 2, total[1] - (row + 1) * (height + LINE + GAP)
        place = (left / total[0], bottom / total[1], width / total[0], height / total[1])
        cells.append(figure.add_axes(place))
    return figure, cells
