"""IROF: does the probability fall when the superpixels that the heatmap names go, one after the other?"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, check_integer, require
from sibx._outputs import Output
from sibx._precise import within_range
from sibx.images._superpixels import superpixels
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.frames import orders_pixels, relevance_order, replace, run
from sibx.metrics.probability import Model
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


class _Removal(NamedTuple):
    """What goes when: pixels (H W,) segment by segment, and how many are gone after 0, 1, ..., L segments."""

    order: Tensor
    counts: list[int]


def irof(
    model: Model,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    segments: Tensor,
    *,
    output: Output = "auto",
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """Area over the curve of p_l / p_0, the share of the clean probability left when l of L segments are gone.

    Segments go in the order of their mean relevance, the most relevant first, ties in a seeded random order, until all
    L of them are replaced by the baseline. ``1 - integral of p_l / p_0`` over l / L in [0, 1], by trapezoids, so that
    images with more segments do not count more. Range [1 - 1 / p_0, 1), higher is better: 0 is a probability that stays
    what it is. Chance is what a random map gets. L + 1 forward passes of one image each.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        segments: (B, 1, H, W) integers, a number per segment, such as ``superpixels`` returns.
        output: what the logits are, see ``sibx.models.Output``.
        baseline: what segments are replaced by, see ``make_baseline``.
        normalization: normalization of the images, for the baseline ``black``.
        batch_size: perturbed images per forward pass; segments of different images share a pass.
        seed: seed of the random order of segments that tie.

    Returns:
        (B,) float64, NaN where the heatmap is zero everywhere or not finite, and where p_0 is not above 0.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Rieger and Hansen, arXiv 2003.08747; there the area is in units of segments.
    """
    check_case(images, heatmaps, targets)
    check_segments(segments, heatmaps)
    check_integer("batch_size", batch_size, 1)
    gone = make_baseline(images, baseline, normalization, seed)
    removals = [_removal(a, s, seed) for a, s in zip(heatmaps, segments, strict=True)]
    sizes = [len(removal.counts) for removal in removals]
    repeated = targets.repeat_interleave(torch.tensor(sizes, dtype=torch.int64, device=targets.device))
    left = run(model, _frames(images, gone, removals), repeated, images, batch_size, output=output)
    areas, clean = left.new_empty(len(sizes)), left.new_empty(len(sizes))
    for row, p in enumerate(left.split(sizes) if sizes else ()):
        clean[row], areas[row] = p[0], 1 - torch.trapezoid(p / p[0], dx=1 / (len(p) - 1))
    defined = orders_pixels(heatmaps).to(left.device) & (clean > 0)
    return areas.masked_fill(~defined, torch.nan)


def superpixels_of(e: Explained) -> Tensor:
    """Return the superpixels of the images that were explained."""
    return superpixels(e.images, e.normalization)


def _irof(e: Explained) -> Tensor:
    return irof(
        e.model,
        e.images,
        e.heatmaps,
        e.targets,
        e.once(superpixels_of),
        output=e.output,
        batch_size=e.batch_size,
        seed=e.seed,
    )


IROF = MetricSpec(
    name="irof",
    title="IROF",
    formula="1 - area under p_l / p_0 while superpixels are replaced by the mean, the most relevant on average first",
    score=_irof,
    higher_is_better=True,
    bounds=(float("-inf"), 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Rieger 2020, arXiv 2003.08747",
)


def check_segments(segments: Tensor, heatmaps: Tensor) -> None:
    """Require integers in the shape of the heatmaps."""
    expected = tuple(heatmaps.shape)
    integer = isinstance(segments, Tensor) and not segments.is_floating_point() and segments.dtype != torch.bool
    good = integer and tuple(segments.shape) == expected
    require(good, "segments", f"be an integer tensor of shape {expected}", segments)


def _removal(heatmap: Tensor, segments: Tensor, seed: int) -> _Removal:
    """Put the segments of one image in the order of their mean relevance."""
    numbers = segments.flatten().unique(return_inverse=True)[1].cpu()
    sizes = numbers.bincount()
    means = numbers.bincount(within_range(heatmap.detach().flatten(1).cpu().double()).flatten()) / sizes
    # In single precision, or what rounding leaves of means that tie would order the segments by their size.
    comparable = (means / means.max()).float()
    ranked = relevance_order(comparable.view(1, 1, 1, -1), seed).squeeze(0)
    order = ranked.argsort()[numbers].argsort(stable=True)
    return _Removal(order.to(heatmap.device), [0, *sizes[ranked].cumsum(0).tolist()])


def _frames(images: Tensor, gone: Tensor, removals: list[_Removal]) -> Iterator[Tensor]:
    for image, empty, removal in zip(images, gone, removals, strict=True):
        yield from replace(image, empty, removal.order, removal.counts)
