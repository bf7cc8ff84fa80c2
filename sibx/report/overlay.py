"""Heatmaps drawn over images, with the mask's contour."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from sibx._checks import check_heatmaps, check_images, check_masks, check_same_batch, require
from sibx.images.pixels import as_colors
from sibx.report.style import DIVERGING, SEQUENTIAL

CLIP = 0.995  # a map is drawn from 0 to this quantile of itself, so that one hot pixel does not blank the rest
CELL_INCHES = 1.35
FONT = 8


def montage(
    pixels: Tensor,
    masks: Tensor | None,
    heatmaps: Mapping[str, Tensor],
    row_titles: Sequence[str] | None = None,
    *,
    opacity: float = 0.6,
) -> Figure:
    """Draw one row per image: the image with its mask's contour, then every heatmap over the image.

    Every map has its own scale, from 0 to its 99.5 % quantile: brightness says where, not how much.

    Args:
        pixels: (B, C, H, W) in [0, 1]; one channel is drawn as gray, and two as the gray of their mean; of more than
            three the first three are red, green and blue.
        masks: (B, 1, H, W) bool; the contour is drawn in every cell. None = no contour.
        heatmaps: column title -> (B, 1, H, W), at least 0. An undefined map (zero everywhere or not finite) is left
            blank and says so.
        row_titles: B titles.
        opacity: opacity of the heatmaps over the images, in [0, 1].

    Returns:
        A matplotlib Figure (not registered with pyplot); ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    first = "image" if masks is None else "image, mask"
    masks = torch.zeros_like(pixels[:, :1], dtype=torch.bool) if masks is None else masks
    check_cells(pixels, masks, "heatmaps", heatmaps, row_titles)
    columns = 1 + len(heatmaps)
    figure = Figure(figsize=(CELL_INCHES * columns, CELL_INCHES * len(pixels) + 0.5), layout="constrained")
    axes = figure.subplots(len(pixels), columns, squeeze=False)
    for row, (picture, mask) in enumerate(zip(to_numpy(pixels), masks[:, 0].cpu().numpy(), strict=True)):
        draw_overlay(axes[row, 0], picture, mask)
        if row_titles is not None:
            axes[row, 0].set_ylabel(row_titles[row], fontsize=FONT)
        for cell, (title, maps) in zip(axes[row, 1:], heatmaps.items(), strict=True):
            draw_overlay(cell, picture, mask, maps[row, 0].cpu().numpy(), opacity=opacity)
            if row == 0:
                cell.set_title(title, fontsize=FONT)
    axes[0, 0].set_title(first, fontsize=FONT)
    return figure


def draw_overlay(
    axes: Axes,
    picture: np.ndarray,
    mask: np.ndarray,
    heatmap: np.ndarray | None = None,
    *,
    opacity: float = 0.6,
) -> None:
    """Draw one picture (H, W, 3) in [0, 1] with a heatmap (H, W) over it and the contour of a mask (H, W) bool.

    A map that is negative anywhere is drawn around 0, in two colors.
    """
    hide_ticks(axes)
    shown = picture if heatmap is None else picture.mean(2, keepdims=True).repeat(3, 2)
    axes.imshow(shown, vmin=0, vmax=1)
    if heatmap is not None:
        sizes = np.abs(heatmap) if np.isfinite(heatmap).all() else np.zeros(1)
        top = float(np.quantile(sizes, CLIP)) or float(sizes.max())
        if top > 0:
            low, colors = (-top, DIVERGING) if (heatmap < 0).any() else (0, SEQUENTIAL)
            axes.imshow(heatmap, cmap=colors, vmin=low, vmax=top, alpha=opacity)
        else:
            axes.text(0.5, 0.5, "undefined", ha="center", va="center", transform=axes.transAxes, fontsize=FONT)
    draw_contours(axes, mask)


def draw_contours(axes: Axes, mask: np.ndarray) -> None:
    """Draw the outlines of a mask (H, W) bool: white on black, which is seen on every color."""
    for x, y in contours(mask):
        axes.plot(
            x, y, color="white", linewidth=0.8, path_effects=[Stroke(linewidth=1.8, foreground="black"), Normal()]
        )


def contours(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the outlines of a mask (H, W) bool as closed x, y lines in pixel coordinates."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    closed = [np.concatenate([line[:, 0], line[:1, 0]]) for line in found]
    return [(line[:, 0], line[:, 1]) for line in closed]


def check_cells(
    pixels: Tensor, masks: Tensor, argument: str, columns: Mapping[str, Tensor], row_titles: Sequence[str] | None
) -> None:
    """Require pixels, masks, columns of maps and titles that make a table of pictures."""
    check_images(pixels, "pixels")
    check_masks(masks, pixels)
    for title, column in columns.items():
        check_heatmaps(column, f"{argument}[{title!r}]")
        check_same_batch(pixels, **{argument: column})
    require(row_titles is None or len(row_titles) == len(pixels), "row_titles", "have one per image", row_titles)


def hide_ticks(axes: Axes) -> None:
    """Leave an image without ticks, grid and frame."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])


def to_numpy(pixels: Tensor) -> np.ndarray:
    """Return pixels (B, C, H, W) as pictures (B, H, W, 3) in [0, 1], in the colors of ``as_colors``."""
    shown = as_colors(pixels.detach().float().clamp(0, 1))
    return shown.permute(0, 2, 3, 1).contiguous().to(torch.device("cpu")).numpy()
