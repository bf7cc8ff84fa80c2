"""Maps that are compared: one scale for all of them, diverging around 0 where they have signs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from sibx._checks import check_heatmaps, require
from sibx._precise import precise
from sibx.report.overlay import CELL_INCHES, CLIP, check_cells, draw_contours, hide_ticks, to_numpy
from sibx.report.style import DIVERGING, SEQUENTIAL, styled

OPACITY = 0.65  # of maps over pictures


class Scale(NamedTuple):
    """What colors mean: values from low to high, over a colormap of matplotlib."""

    low: float
    high: float
    colormap: str


def shared_scale(maps: Iterable[np.ndarray], *, signed: bool) -> Scale:
    """Return one scale for maps that are compared: from 0 up, or symmetric around 0 where maps have signs.

    It reaches to the 99.5 % quantile of the magnitudes of all of them together, so that one hot pixel does not blank
    the rest. Undefined maps (zero everywhere or not finite) take no part; without any other the reach is 1.
    """
    defined = [np.abs(m, dtype=np.float64).ravel() for m in maps if is_defined(m)]
    magnitudes = np.concatenate(defined) if defined else np.ones(1)
    reach = float(np.quantile(magnitudes, CLIP)) or float(magnitudes.max())
    return Scale(-reach, reach, DIVERGING) if signed else Scale(0.0, reach, SEQUENTIAL)


def is_signed(maps: Iterable[np.ndarray]) -> bool:
    """Whether any defined map is negative anywhere."""
    return any(is_defined(m) and bool((m < 0).any()) for m in maps)


def is_defined(heatmap: np.ndarray) -> bool:
    """Whether a map says anything: finite everywhere, and not zero everywhere."""
    return bool(np.isfinite(heatmap).all() and (heatmap != 0).any())


def relative(heatmaps: Tensor) -> Tensor:
    """Divide every map (B, 1, H, W) by its own mean magnitude: 1 is then the level of a flat map.

    How large the maps of a network are says nothing about where it looks. In this unit, those of several networks can
    be drawn on one scale. Undefined maps (zero everywhere or not finite) become NaN.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    check_heatmaps(heatmaps)
    values = precise(heatmaps.detach())
    means = values.abs().mean((1, 2, 3), keepdim=True)
    return (values / means).where(means.isfinite() & (means > 0), torch.nan).to(heatmaps.dtype)


def paint(picture: np.ndarray, heatmap: np.ndarray, scale: Scale, *, opacity: float = OPACITY) -> np.ndarray:
    """Return the picture (H, W, 3) in [0, 1] in gray, with a map (H, W) in colors over it unless it is undefined."""
    gray = picture.mean(2, keepdims=True).repeat(3, 2)
    if not is_defined(heatmap):
        return gray
    place = (heatmap - scale.low) / (scale.high - scale.low)
    return (1 - opacity) * gray + opacity * colormaps[scale.colormap](place)[..., :3]


def compare_maps(
    pixels: Tensor,
    masks: Tensor,
    maps: Mapping[str, Tensor],
    row_titles: Sequence[str] | None = None,
    *,
    unit: str = "",
    opacity: float = OPACITY,
) -> Figure:
    """Draw one row per image: the image with its mask's contour, then every map, all of a row on one scale.

    The row's color bar says what colors mean. Nothing is normalized: for maps of different networks pass
    ``relative(maps)``.

    Args:
        pixels: (B, C, H, W) in [0, 1], in the colors of ``montage``.
        masks: (B, 1, H, W) bool; the contour is drawn in every cell.
        maps: column title -> (B, 1, H, W), with or without signs. An undefined map (zero everywhere or not finite)
            leaves the image bare and says so.
        row_titles: B titles.
        unit: unit of the maps, written beside the color bars.
        opacity: opacity of the maps over the images, in [0, 1].

    Returns:
        A matplotlib Figure (not registered with pyplot).

    Raises:
        ValueError: no map, a wrong shape or dtype.
    """
    require(bool(maps), "maps", "hold at least one column", maps)
    check_cells(pixels, masks, "maps", maps, row_titles)
    arrays = {title: column[:, 0].detach().float().cpu().numpy() for title, column in maps.items()}
    signed = is_signed(heatmap for column in arrays.values() for heatmap in column)
    size = CELL_INCHES * (1.5 + len(maps)), CELL_INCHES * len(pixels) + 0.3
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(pixels), 1 + len(maps), squeeze=False)
        for row, (picture, mask) in enumerate(zip(to_numpy(pixels), masks[:, 0].cpu().numpy(), strict=True)):
            cells, shown = list(axes[row]), [column[row] for column in arrays.values()]
            scale = shared_scale(shown, signed=signed)
            cells[0].imshow(picture)
            for cell, heatmap in zip(cells[1:], shown, strict=True):
                _draw_map(cell, picture, heatmap, scale, opacity)
            for cell in cells:
                hide_ticks(cell)
                draw_contours(cell, mask)
            cells[0].set_ylabel(row_titles[row] if row_titles else "")
            colors = ScalarMappable(Normalize(scale.low, scale.high), scale.colormap)
            figure.colorbar(colors, ax=cells, label=unit, aspect=12, pad=0.01)
        for cell, title in zip(axes[0], ("image, mask", *maps), strict=True):
            cell.set_title(title)
    return figure


def _draw_map(axes: Axes, picture: np.ndarray, heatmap: np.ndarray, scale: Scale, opacity: float) -> None:
    axes.imshow(paint(picture, heatmap, scale, opacity=opacity))
    if not is_defined(heatmap):
        label = {"boxstyle": "round", "facecolor": "white", "edgecolor": "none"}
        axes.text(0.5, 0.5, "undefined", ha="center", va="center", transform=axes.transAxes, bbox=label)
