"""What the localization scores share."""

import torch
from torch import Tensor

from sibx._checks import check_heatmaps, check_masks, check_range


def prepare(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check and flatten to (B, P): heatmap values (0 at undefined pixels), object pixels, defined pixels."""
    check_heatmaps(heatmaps)
    check_masks(masks, heatmaps)
    if undefined is not None:
        check_masks(undefined, heatmaps, "undefined")
    if (heatmaps < 0).any():
        check_range("heatmaps", float(heatmaps.detach().nan_to_num(0).min()), 0)
    a, s = heatmaps.detach().double().flatten(1), masks.flatten(1)
    if undefined is None:
        return a, s, torch.ones_like(s)
    defined = ~undefined.flatten(1)
    return a.masked_fill(~defined, 0), s & defined, defined


def where_defined(score: Tensor, a: Tensor, s: Tensor, defined: Tensor) -> Tensor:
    """NaN for rows with an empty or full mask, a zero map or a non-finite one."""
    mass, object_pixels = a.sum(1), s.sum(1)  # a sum of values >= 0 is finite where all of them are
    good = (object_pixels > 0) & (object_pixels < defined.sum(1)) & mass.isfinite() & (mass > 0)
    return score.masked_fill(~good, torch.nan)
