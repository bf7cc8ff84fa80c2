"""What the localization scores share: heatmaps over the masks of their objects, checked, summed and sorted once."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_heatmaps, check_masks, check_range
from sibx._precise import precise, within_range
from sibx.metrics.explained import Explained

CACHE = 2**16  # values that are worked on together on a CPU; in double precision they stay in its cache
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}  # of as many bits


class Levels(NamedTuple):
    """Maps cut at each of their distinct values from the largest down: what lies at or above the value.

    A level may come more than once, and so may one without pixels at the beginning.

    Attributes:
        hits: (..., G) float64, pixels on the object.
        alarms: (..., G) float64, pixels beside it.
    """

    hits: Tensor
    alarms: Tensor


class Overlap:
    """A batch of heatmaps over the masks of their objects; what is computed for one score is there for the others.

    Args:
        heatmaps: (B, 1, H, W), floating point, at least 0.
        masks: (B, 1, H, W) bool.
        undefined: (B, 1, H, W) bool, pixels that take no part.

    Attributes:
        values: (B, P) of the P = H W pixels, 0 where undefined.
        defined: (B, P) bool, pixels that take part; None = all.
        objects: (B, P) uint8, 1 on the object, 0 beside it and where undefined; bytes become numbers several times as
            fast as bools do.
        object_pixels: (B,) how many pixels are on the object.
        background_pixels: (B,) how many are beside it.
        size: (H, W).

    Raises:
        ValueError: a wrong shape or dtype, or negative values.
    """

    def __init__(self, heatmaps: Tensor, masks: Tensor, undefined: Tensor | None = None):
        check_heatmaps(heatmaps)
        check_masks(masks, heatmaps)
        self.size = heatmaps.shape[2:]
        self.values, objects = within_range(heatmaps.detach().flatten(1)), masks.flatten(1)
        _check_sign(self.values)
        defined_pixels: Tensor | int = self.size.numel()
        self.defined: Tensor | None = None
        if undefined is not None:
            check_masks(undefined, heatmaps, "undefined")
            self.defined = ~undefined.flatten(1)
            self.values, objects = self.values.where(self.defined, 0), objects & self.defined
            defined_pixels = _in_blocks(_count, self.defined.view(torch.uint8))
        self.objects = objects.view(torch.uint8)
        self.object_pixels = _in_blocks(_count, self.objects)
        self.background_pixels = defined_pixels - self.object_pixels

    @cached_property
    def masses(self) -> tuple[Tensor, Tensor]:
        """Sum of every heatmap on the object and beside it, (B,) float64 each."""
        inside, outside = _in_blocks(_masses, self.values, self.objects).unbind(1)
        return inside, outside

    @cached_property
    def largest(self) -> Tensor:
        """Maximum of every heatmap, (B,); NaN where a value is."""
        return self.values.amax(1)

    @property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of every heatmap where it is defined, (B, 1) float64 each."""
        values = self.values if self.defined is None else self.values.masked_fill(~self.defined, torch.inf)
        return precise(values.amin(1, keepdim=True)), precise(self.largest.unsqueeze(1))

    @cached_property
    def ordered(self) -> Tensor:
        """Integers (B, P) in ascending order that stand for the pixels from the largest value down.

        The bits of numbers >= 0 order like them. Without the sign they leave room for the mask, so that one array is
        sorted instead of values and places: the lowest bit is 0 on the object, whose pixels come first among equals.
        """
        values = self.values if self.values.dtype in INTEGERS else self.values.float()
        integers = INTEGERS[values.dtype]
        keys = self.objects.to(integers).add_(values.view(integers), alpha=2)  # as unsigned numbers: the sign is gone
        keys ^= torch.iinfo(integers).max  # as signed ones, in reverse order
        if keys.device.type != "cpu":
            return keys.sort(dim=1).values
        keys.numpy().sort(axis=1)  # five times as fast as torch's, which keeps the places
        return keys

    def by_levels(self, score: Callable[[Levels], Tensor]) -> Tensor:
        """Score every map by its levels, (B,) float64, NaN where undefined.

        Args:
            score: Levels with hits and alarms (..., G) -> (...).
        """
        keys, others = self.ordered, self.background_pixels
        if keys.device.type == "cpu":
            scores = torch.empty(len(keys), dtype=torch.float64)
            for row, levels in enumerate(map(_distinct_levels, keys, others)):
                scores[row] = score(levels)
        else:
            scores = score(_levels_of_pixels(keys, others))
        return self.where_defined(scores, self.largest)

    def where_defined(self, scores: Tensor, scale: Tensor) -> Tensor:
        """NaN without an object or a background, and where a map's scale (its sum or maximum) is 0 or not finite."""
        both = (self.object_pixels > 0) & (self.background_pixels > 0)
        return scores.masked_fill(~(both & (scale > 0) & scale.isfinite()), torch.nan)


def overlap(e: Explained) -> Overlap:
    """Return the heatmaps of what was explained over their masks."""
    return Overlap(e.heatmaps, e.masks, e.undefined)


def steps(counts: Tensor) -> Tensor:
    """Return by how much counts (..., G) rise from level to level."""
    return counts.diff(prepend=torch.zeros_like(counts[..., :1]))


def _distinct_levels(keys: Tensor, background_pixels: Tensor) -> Levels:
    """Levels (G,) of one map: all other steps are short then, but on a GPU everything would wait for G."""
    pixels = torch.unique_consecutive(keys >> 1, return_counts=True)[1].cumsum(0)
    alarms = precise((keys & 1).cumsum(0, dtype=torch.int32).index_select(0, pixels - 1))
    # Undefined pixels are among those of value 0 beside the object.
    return Levels(precise(pixels) - alarms, alarms.clamp(max=background_pixels))


def _levels_of_pixels(keys: Tensor, background_pixels: Tensor) -> Levels:
    """Levels (B, P) of all maps: the one that every pixel, from the largest value down, completes or comes after."""
    completes = torch.ones_like(keys, dtype=torch.bool)
    completes[:, :-1] = keys[:, 1:] >> 1 != keys[:, :-1] >> 1
    alarms = (keys & 1).cumsum(1)
    hits = torch.arange(1, keys.shape[1] + 1, device=keys.device) - alarms
    hits, alarms = (precise(counts.where(completes, 0).cummax(1).values) for counts in (hits, alarms))
    return Levels(hits, alarms.clamp(max=background_pixels.unsqueeze(1)))


def _check_sign(values: Tensor) -> None:
    """Require values (B, P) of at least 0, in one pass where they are; NaN is not below 0."""
    if not (values.amin(1) >= 0).all():
        check_range("heatmaps", float(values.nan_to_num(0).min()), 0)


def _in_blocks(compute: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Compute something for rows (B, P): on a CPU for as many together as its cache holds, elsewhere for all."""
    count, pixels = rows[0].shape
    size = CACHE // max(1, pixels) if rows[0].device.type == "cpu" else count
    return torch.cat([compute(*block) for block in zip(*(r.split(max(1, size)) for r in rows), strict=True)])


def _count(flags: Tensor) -> Tensor:
    return flags.sum(1, dtype=torch.int32)


def _masses(values: Tensor, objects: Tensor) -> Tensor:
    """Sums (B, 2) on the object and beside it, each by itself: a difference of sums would not be exact."""
    a, part = precise(values), precise(objects)
    inside = part.mul_(a).sum(1)
    outside = torch.sub(a, part, out=part).sum(1)
    return torch.stack([inside, outside], 1)
