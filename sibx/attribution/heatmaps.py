"""Attributions as heatmaps, the non-negative maps that metrics and overlays see."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, check_images

Reduce = Literal["positive_sum", "sum", "l2"]


def to_heatmap(attributions: Tensor, size: tuple[int, int], reduce: Reduce) -> Tensor:
    """Turn attributions into heatmaps, the non-negative maps that metrics and overlays see.

    Args:
        attributions: attributions (B, C, h, w) of any floating dtype.
        size: (H, W) of the result; attributions of another size are resized bilinearly (``align_corners=False``).
        reduce: how the channels become one. ``"positive_sum"``: the positive part of the channel sum, for signed
            attributions; ``"l2"``: the Euclidean norm over channels, for attributions whose sign has no meaning;
            ``"sum"``: the channel sum with its sign, for metrics that add attributions up.

    Returns:
        Heatmaps (B, 1, H, W) float32, not normalized, at least 0 (except with ``"sum"``). NaN stays NaN.

    Raises:
        ValueError: attributions that are not floating point (B, C, h, w), or an unknown reduction.

    Example:
        >>> to_heatmap(torch.tensor([3.0, -4.0]).view(1, 2, 1, 1), (1, 1), "l2")
        tensor([[[[5.]]]])
    """
    check_images(attributions, "attributions")
    check_choice("reduce", reduce, ("positive_sum", "sum", "l2"))
    maps = attributions.float()
    if reduce == "l2":
        # The root of a single channel's square is its magnitude, of which squares of small values would leave nothing.
        heatmaps = maps.abs() if maps.shape[1] == 1 else torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    else:
        total = maps.sum(1, keepdim=True)
        heatmaps = total.clamp(min=0) if reduce == "positive_sum" else total
    return heatmaps if heatmaps.shape[2:] == size else F.interpolate(heatmaps, size, mode="bilinear")


def image_size(inputs: tuple[Tensor, ...]) -> tuple[int, int]:
    """Return (H, W) of the first input, which has to be an image."""
    check_images(inputs[0], "inputs")
    return inputs[0].shape[2], inputs[0].shape[3]
