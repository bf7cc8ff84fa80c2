"""Several pictures, or one by several models, and what several methods say about each: a row for each."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from sibx._checks import check_heatmaps, check_images, check_masks, check_same_batch, require
from sibx.report.overlay import FONT, draw_overlay, hide_ticks, to_numpy
from sibx.report.sheet import DPI, FINEST, GAP, LINE

CELL = 2.0  # inches of a cell's longer side
NAME = 0.17  # inches of a line of the row's name, which is written upward
LETTER = 0.062  # inches of a letter, on average


class NotebookFigure(Figure):
    """A figure that notebooks show by itself, with and without ``%matplotlib inline``."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


class SheetRow(NamedTuple):
    """A row of a sheet.

    Attributes:
        name: what stands left of the row, from bottom to top; it may have several lines.
        pixels: the picture (1, 3, H, W) in [0, 1].
        title: what stands over the picture.
        heatmaps: title -> map (1, 1, H, W); one that is negative anywhere is drawn around 0, in two colors.
        mask: mask (1, 1, H, W) bool, whose outline is drawn in every cell; None = no outline.
    """

    name: str
    pixels: Tensor
    title: str
    heatmaps: Mapping[str, Tensor]
    mask: Tensor | None = None

    def smaller(self, longer: int) -> "SheetRow":
        """Return the row with at most so many pixels on the longer side: what a contact sheet keeps of it."""
        height, width = self.pixels.shape[2:]
        scale = longer / max(height, width)
        if scale >= 1:
            return self
        size = max(1, round(scale * height)), max(1, round(scale * width))
        pixels, *maps = (
            F.interpolate(values, size, mode="bilinear", antialias=True)
            for values in (self.pixels, *self.heatmaps.values())
        )
        mask = None if self.mask is None else F.interpolate(self.mask.byte(), size, mode="nearest-exact").bool()
        return self._replace(pixels=pixels, heatmaps=dict(zip(self.heatmaps, maps, strict=True)), mask=mask)

    def outline(self) -> Tensor:
        """Return the mask that is outlined, (1, 1, H, W) bool."""
        return torch.zeros_like(self.pixels[:, :1], dtype=torch.bool) if self.mask is None else self.mask


def draw_rows(rows: Sequence[SheetRow], *, cell: float = CELL) -> Figure:
    """Draw a row per picture or model: its name, the picture, and every map over the picture.

    Every cell has the proportions of its row's picture; a map has its own scale, as in ``draw_sheet``. The columns are
    those of all rows together: where a row has no such map the cell stays empty. Of text that is too long the middle is
    left out.

    Args:
        rows: the rows.
        cell: inches of a cell's longer side.

    Returns:
        A matplotlib Figure, not registered with pyplot; ``figure.savefig(path, dpi=figure.dpi)`` gives every pixel one
        of its own, up to 600 in an inch.

    Raises:
        ValueError: no row, or a wrong shape or dtype.

    Example:
        >>> maps = {"Saliency": torch.rand(1, 1, 30, 40)}
        >>> rows = [SheetRow(name, torch.rand(1, 3, 30, 40), "7 cock", maps) for name in ("before", "after")]
        >>> len(draw_rows(rows).axes)
        4
    """
    require(len(rows) > 0, "rows", "hold at least one", rows)
    for row in rows:
        check_images(row.pixels, "pixels")
        check_masks(row.outline(), row.pixels, "mask")
        for title, maps in row.heatmaps.items():
            check_heatmaps(maps, f"heatmaps[{title!r}]")
            check_same_batch(row.pixels, heatmaps=maps)
    columns = list(dict.fromkeys(title for row in rows for title in row.heatmaps))
    lines = 1 + max(row.name.count("\n") for row in rows)
    figure, cells = _layout([row.pixels for row in rows], 1 + len(columns), cell, lines * NAME)
    for row, (first, *others) in zip(rows, cells, strict=True):
        picture = to_numpy(row.pixels)[0]
        outline = row.outline()[0, 0].cpu().numpy()
        draw_overlay(first, picture, outline)
        height = first.get_position().height * figure.get_figheight()
        first.set_ylabel(_cut(row.name, height), fontsize=FONT, labelpad=3)
        first.set_title(_cut(row.title, cell), fontsize=FONT, pad=3)
        for axes, title in zip(others, columns, strict=True):
            hide_ticks(axes)
            if title in row.heatmaps:
                draw_overlay(axes, picture, outline, row.heatmaps[title][0, 0].cpu().numpy())
                axes.set_title(_cut(title, cell), fontsize=FONT, pad=3)
    return figure


def _cut(text: str, inches: float) -> str:
    """Return lines of at most so many inches: beginning and end say most, of a path and of a class alike."""
    most = max(8, int(inches / LETTER))
    lines = (t if len(t) <= most else f"{t[: most // 2]}…{t[most // 2 + 1 - most :]}" for t in text.split("\n"))
    return "\n".join(lines)


def _layout(pictures: Sequence[Tensor], columns: int, cell: float, names: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a row of cells per picture (1, 3, H, W), in its proportions, and room left for names."""
    sizes = [
        (cell * width / max(width, height), cell * height / max(width, height)) for height, width in _sides(pictures)
    ]
    pitch = max(cell / 2, *(width for width, _ in sizes)) + GAP
    total = names + columns * pitch + GAP, sum(height + LINE + GAP for _, height in sizes) + GAP
    finest = max(max(sides) for sides in _sides(pictures)) / cell
    figure = NotebookFigure(figsize=total, dpi=min(max(DPI, finest), FINEST))
    cells, bottom = [], total[1]
    for width, height in sizes:
        bottom -= height + LINE + GAP
        lefts = [names + GAP + column * pitch + (pitch - GAP - width) / 2 for column in range(columns)]
        cells.append(
            [
                figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))
                for left in lefts
            ]
        )
    return figure, cells


def _sides(pictures: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(picture.shape[2], picture.shape[3]) for picture in pictures]
