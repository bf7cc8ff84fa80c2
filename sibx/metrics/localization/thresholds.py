"""Localization over all thresholds: how well does the heatmap tell the object from the background?"""

from typing import NamedTuple

import torch
from torch import Tensor

from sibx.metrics.localization.overlap import prepare, where_defined
from sibx.metrics.localization.sorting import sort
from sibx.metrics.spec import MetricSpec


def best_iou(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Largest intersection over union of the object and {a >= t} over all thresholds t.

    Range [0, 1], higher is better; a flat map scores the object's area share, its only threshold. The threshold is
    chosen with the mask in hand, so this is an upper bound of what a user would get. Arguments, undefined cases and
    errors as ``relevance_rank``.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    union = r.pixels + s.sum(1, keepdim=True) - r.hits
    return where_defined((r.hits / union).masked_fill(~r.ends, 0).amax(1), a, s, defined)


BEST_IOU = MetricSpec(
    name="best_iou",
    title="Best IoU",
    formula="largest intersection over union of s and {a >= t} over thresholds t",
    score=lambda e: best_iou(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="IoU at the best threshold",
)


def average_precision(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Area under the precision-recall curve of pixels against the object: ``sum_t (R_t - R_t') P_t``.

    t runs over the distinct values of the heatmap, t' is the one before. Range (0, 1], higher is better; a flat map
    scores the object's area share, which is chance. Arguments, undefined cases and errors as ``relevance_rank``.

    Source: the step-wise sum of information retrieval (Manning et al. 2008, chapter 8), without interpolation.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    gained = (r.hits - r.hits_before).masked_fill(~r.ends, 0)
    return where_defined((gained * r.hits / r.pixels).sum(1) / s.sum(1), a, s, defined)


AVERAGE_PRECISION = MetricSpec(
    name="average_precision",
    title="Average precision",
    formula="area under the precision-recall curve of pixels against s, exact with ties",
    score=lambda e: average_precision(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="area share of the object",
    needs_masks=True,
    reference="Manning 2008, chapter 8",
)


def roc_auc(heatmaps: Tensor, masks: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """Probability that a random object pixel is above a random background pixel, ties counting one half.

    Range [0, 1], higher is better, chance 0.5. Arguments, undefined cases and errors as ``relevance_rank``.

    Source: area under the ROC curve, Fawcett 2006.
    """
    a, s, defined = prepare(heatmaps, masks, undefined)
    r = _rank(a, s, defined)
    false_alarms = r.pixels - r.hits - (r.pixels_before - r.hits_before)
    area = (false_alarms * (r.hits + r.hits_before) / 2).masked_fill(~r.ends, 0).sum(1)
    return where_defined(area / (s.sum(1) * (defined & ~s).sum(1)), a, s, defined)


ROC_AUC = MetricSpec(
    name="roc_auc",
    title="ROC-AUC",
    formula="probability that an object pixel is above a background pixel, ties 1/2",
    score=lambda e: roc_auc(e.heatmaps, e.masks, undefined=e.undefined),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance="0.5",
    needs_masks=True,
    reference="Fawcett 2006",
)


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
    values, on_object = sort(a, s, defined)
    hits = on_object.cumsum(1, dtype=torch.float64)
    pixels = torch.arange(1, a.shape[1] + 1, device=a.device, dtype=torch.float64).expand_as(hits)
    following = torch.cat([values[:, 1:], torch.full_like(values[:, :1], -2)], 1)
    ends = (values != following) & (values >= 0)

    def before(counts: Tensor) -> Tensor:
        reached = counts.masked_fill(~ends, 0).cummax(1).values
        return torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], 1)

    return _Ranking(pixels, hits, ends, before(pixels), before(hits))
