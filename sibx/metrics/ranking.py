"""Localization by order: do the object's pixels come first?

These scores look at the order of the pixels only, so that any increasing change of the heatmap leaves them as they are.
Arguments and undefined cases are those of ``sibx.metrics.localization``; pixels that tie are treated exactly, and a
flat map scores chance.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_range
from sibx.metrics.localization import prepare, where_defined

TOP, TOP_SIDE = 1000, 224  # pixels in an image of 224 x 224, in proportion to the area otherwise


def relevance_rank(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Share of the |s| largest pixels that lie on the object, |s| = number of object pixels.

    Pixels that tie for the last places count by their expected share under a random order. Range [0, 1], higher is
    better; chance is the object's area share; 1 when every object pixel is above every other one.

    Args:
        heatmaps: a, (B, 1, H, W), floating point, at least 0.
        masks: s, (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool, pixels left out.

    Returns:
        (B,) float64, NaN where undefined.

    Raises:
        ValueError: a wrong shape or dtype, or negative values.

    Source: relevance rank accuracy, Arras et al., arXiv 2003.07258.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    return where_defined(_share_of_first(a, s, defined, s.sum(1)), a, s, defined)


def topk_intersection(heatmaps: Tensor, masks: Tensor, k: int | None = None, undefined: Tensor | None = None) -> Tensor:
    """Share of the min(k, |s|) largest pixels that lie on the object.

    Unlike with a fixed k, a perfect map reaches 1 on a small object too. Ties, range, chance, undefined cases and
    errors as ``relevance_rank``.

    Args:
        heatmaps: as for ``relevance_rank``.
        masks: as for ``relevance_rank``.
        k: number of pixels, at least 1; None = 1000 at 224 x 224, in proportion to the area.
        undefined: as for ``relevance_rank``.

    Source: Theiner et al., WACV 2022 (fixed k).
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    count = max(1, round(TOP * a.shape[1] / TOP_SIDE**2)) if k is None else k
    check_range("k", count, 1)
    return where_defined(_share_of_first(a, s, defined, s.sum(1).clamp(max=count)), a, s, defined)


def iou(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Intersection over union of the object and as many pixels as it has, those with the largest values.

    With r the relevance rank, ``r / (2 - r)``: range [0, 1], higher is better, and no threshold to choose. Chance for
    area share q: q / (2 - q). Arguments, undefined cases and errors as ``relevance_rank``.
    """
    rank = relevance_rank(heatmaps, masks, undefined)
    return rank / (2 - rank)


def best_iou(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Largest intersection over union of the object and {a >= t} over all thresholds t.

    Range [0, 1], higher is better; a flat map scores the object's area share, its only threshold. The threshold is
    chosen with the mask in hand, so this is an upper bound of what a user would get. Arguments, undefined cases and
    errors as ``relevance_rank``.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    union = r.pixels + s.sum(1, keepdim=True) - r.hits
    return where_defined((r.hits / union).masked_fill(~r.ends, 0).amax(1), a, s, defined)


def average_precision(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Area under the precision-recall curve of pixels against the object: ``sum_t (R_t - R_t') P_t``.

    t runs over the distinct values of the heatmap, t' is the one before. Range (0, 1], higher is better; a flat map
    scores the object's area share, which is chance. Arguments, undefined cases and errors as ``relevance_rank``.

    Source: the step-wise sum of information retrieval (Manning et al. 2008, chapter 8), without interpolation.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    gained = (r.hits - r.hits_before).masked_fill(~r.ends, 0)
    return where_defined((gained * r.hits / r.pixels).sum(1) / s.sum(1), a, s, defined)


def roc_auc(heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Tensor:
    """Probability that a random object pixel is above a random background pixel, ties counting one half.

    Range [0, 1], higher is better, chance 0.5. Arguments, undefined cases and errors as ``relevance_rank``.

    Source: area under the ROC curve, Fawcett 2006.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    false_alarms = r.pixels - r.hits - (r.pixels_before - r.hits_before)
    area = (false_alarms * (r.hits + r.hits_before) / 2).masked_fill(~r.ends, 0).sum(1)
    return where_defined(area / (s.sum(1) * (defined & ~s).sum(1)), a, s, defined)


def _share_of_first(a: Tensor, s: Tensor, defined: Tensor, count: Tensor) -> Tensor:
    """Expected share of object pixels among each row's ``count`` (B,) largest pixels."""
    size = count.clamp(min=1).unsqueeze(1)
    values, on_object = _sort(a, s, defined)
    last = values.gather(1, size - 1)
    above, tied = values > last, values == last
    places = (size.squeeze(1) - above.sum(1)).double()
    hits = (above & on_object).sum(1) + places * (tied & on_object).sum(1) / tied.sum(1)
    return hits / size.squeeze(1)


def _sort(a: Tensor, s: Tensor, defined: Tensor) -> tuple[Tensor, Tensor]:
    """Values from the largest down, as integers that order like them, and whether each lies on the object; both (B, P).

    Undefined pixels come last, as -1. The bits of numbers >= 0 order like them, and the lowest one makes room for the
    mask, so that one array is sorted instead of values and places: with NumPy five times as fast as torch's sort.
    Values that differ in the last bit of a float64 count as equal; those of a float32 all stay different.
    """
    keys = ((a.contiguous().view(torch.int64) & ~1) | s).masked_fill(~defined, -1)
    ordered = torch.from_numpy(np.sort(keys.numpy(), axis=1)) if keys.device.type == "cpu" else keys.sort(dim=1).values
    descending = ordered.flip(1)
    return descending >> 1, (descending & 1).bool() & (descending >= 0)


class _Ranking(NamedTuple):
    """Pixels and object pixels down to every place of the order, (B, P), and whether a group of ties ends there.

    ``..._before``: the same at the end of the group before; meaningful where ``ends``.
    """

    pixels: Tensor
    hits: Tensor
    ends: Tensor
    pixels_before: Tensor
    hits_before: Tensor


def _rank(a: Tensor, s: Tensor, defined: Tensor) -> _Ranking:
    values, on_object = _sort(a, s, defined)
    hits = on_object.cumsum(1, dtype=torch.float64)
    pixels = torch.arange(1, a.shape[1] + 1, device=a.device, dtype=torch.float64).expand_as(hits)
    following = torch.cat([values[:, 1:], torch.full_like(values[:, :1], -2)], 1)
    ends = (values != following) & (values >= 0)

    def before(counts: Tensor) -> Tensor:
        reached = counts.masked_fill(~ends, 0).cummax(1).values
        return torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], 1)

    return _Ranking(pixels, hits, ends, before(pixels), before(hits))
