"""Bounding boxes drawn as masks, for data without finer masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sibx._checks import require

Boxes = Tensor | Sequence[Sequence[float]] | Sequence[float]  # of one image


def draw_boxes(boxes: Sequence[Boxes], size: tuple[int, int]) -> Tensor:
    """Return for every image the union of its boxes as a mask.

    A pixel is inside if its center is: column x and row y lie in a box if ``x0 <= x + 1/2 < x1`` and
    ``y0 <= y + 1/2 < y1``. Whole numbers are therefore the edges of pixels, and ``(0, 0, W, H)`` is the whole image;
    where the last pixel belongs to a box (VOC), add 1 to x1 and y1.

    Args:
        boxes: for each image one tensor (N, 4), or N rows of numbers, each row (x0, y0, x1, y1) in pixels; or a single
            row. A tensor with N = 0 leaves the mask empty.
        size: (H, W) of the masks.

    Returns:
        Masks (B, 1, H, W) bool, on the device of the boxes.

    Raises:
        ValueError: a tensor that is not (N, 4), or a box that does not satisfy 0 <= x0 < x1 <= W and
            0 <= y0 < y1 <= H.
    """
    height, width = size
    require(len(boxes) > 0, "boxes", "hold one tensor per image", boxes)
    return torch.stack([_draw(_checked(part, size), height, width) for part in boxes])


def _checked(given: Boxes, size: tuple[int, int]) -> Tensor:
    try:
        boxes = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        boxes = torch.empty(0)
    boxes = boxes[None] if boxes.shape == (4,) else boxes  # one box
    good = boxes.ndim == 2 and boxes.shape[1] == 4
    require(good, "boxes", "be tensors of shape (N, 4), or rows of four numbers", given)
    x0, y0, x1, y1 = boxes.unbind(1)
    fits = (x0 >= 0) & (x0 < x1) & (x1 <= size[1]) & (y0 >= 0) & (y0 < y1) & (y1 <= size[0])
    require(bool(fits.all()), "boxes", f"lie within images of size {size}", boxes[~fits].tolist())
    return boxes


def _draw(boxes: Tensor, height: int, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unsqueeze(2).unbind(1)
    columns = torch.arange(width, device=boxes.device) + 0.5
    rows = torch.arange(height, device=boxes.device) + 0.5
    across, along = (x0 <= columns) & (columns < x1), (y0 <= rows) & (rows < y1)
    return (along.unsqueeze(2) & across.unsqueeze(1)).any(0).unsqueeze(0)
