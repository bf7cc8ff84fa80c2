"""Deletion and insertion: does the score follow when the pixels that the heatmap names go, or come?"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import (
    check_heatmaps,
    check_range,
    check_same_batch,
    require,
)
from sibx.datasets.baselines import Baseline, make_baseline
from sibx.datasets.transforms import Normalization
from sibx.metrics.probability import probability

STEPS = 28


class Curves(NamedTuple):
    """Probability of the explained class along a perturbation.

    Attributes:
        fractions: (S + 1,) float64, true shares of the pixels changed, from 0 to 1.
        probabilities: (B, S + 1) float64.
        auc: (B,) float64, area under the curve over [0, 1] by trapezoids, in [0, 1]; NaN where the heatmap is zero
            everywhere or not finite.
    """

    fractions: Tensor
    probabilities: Tensor
    auc: Tensor


def deletion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
) -> Curves:
    """Probability of the target as the most relevant pixels are replaced by the baseline; lower AUC is better.

    Pixels of all channels go together, in ``steps`` equal shares; both end points are measured. Equal heatmap values
    are ordered at random (seeded), not from top to bottom.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        baseline: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see ``make_baseline``.
        normalization: of the images, for ``black``.
        steps: shares, at least 1.
        batch_size: perturbed images per forward pass; steps of different images share a pass.
        seed: of the tie order; the same for every image, so a score does not depend on its batch.

    Returns:
        Curves; chance is the curve of a random map, not a fixed number.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Petsiuk et al., arXiv 1806.07421 (28 steps and the mean as in its tables).
    """
    end = make_baseline(images, baseline, normalization, seed)
    return _follow(model, images, end, heatmaps, targets, steps, batch_size, seed)


def insertion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = "blur",
    normalization: Normalization | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
) -> Curves:
    """Probability of the target as the most relevant pixels appear on the baseline; higher AUC is better.

    Arguments, result and errors as ``deletion``. Source: Petsiuk et al., arXiv 1806.07421, with a true Gaussian blur.
    """
    start = make_baseline(images, baseline, normalization, seed)
    return _follow(model, start, images, heatmaps, targets, steps, batch_size, seed)


def ranks(heatmaps: Tensor, seed: int = 0) -> Tensor:
    """Rank of every pixel, (B, H W) int64, 0 = most relevant; ties in a seeded random order, one for all rows."""
    flat = heatmaps.flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))


def _follow(
    model: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    steps: int,
    batch_size: int,
    seed: int,
) -> Curves:
    """Replace pixels of ``start`` by those of ``end``, most relevant first, and record the target's probability."""
    check_heatmaps(heatmaps)
    check_same_batch(start, heatmaps=heatmaps, targets=targets)
    require(heatmaps.shape[2:] == start.shape[2:], "heatmaps", f"be of size {tuple(start.shape[2:])}", heatmaps)
    check_range("steps", steps, 1, heatmaps[0].numel())
    check_range("batch_size", batch_size, 1)
    pixels = heatmaps[0].numel()
    counts = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()
    with torch.inference_mode():
        frames = _frames(start, end, ranks(heatmaps, seed).view_as(heatmaps), counts, batch_size)
        wanted = targets.repeat_interleave(steps + 1)
        chunks = [probability(model, frame, t) for frame, t in zip(frames, wanted.split(batch_size), strict=True)]
    # Cloned outside inference_mode: what users get are ordinary tensors.
    probabilities = torch.cat(chunks).clone().view(len(start), steps + 1)
    fractions = counts.double() / pixels
    auc = torch.trapezoid(probabilities.cpu(), fractions)
    flat = heatmaps.flatten(1)
    good = (flat.isfinite().all(1) & (flat > 0).any(1)).cpu()
    return Curves(fractions, probabilities.cpu(), auc.masked_fill(~good, torch.nan))


def _frames(start: Tensor, end: Tensor, rank: Tensor, counts: Tensor, size: int) -> Iterator[Tensor]:
    """Yield the perturbed images, all steps of image 0, then of image 1, ..., ``size`` at a time."""
    steps = len(counts)
    total = len(start) * steps
    counts = counts.to(start.device)
    for first in range(0, total, size):
        index = torch.arange(first, min(first + size, total), device=start.device)
        row, step = index.div(steps, rounding_mode="floor"), index % steps
        replaced = rank[row] < counts[step].view(-1, 1, 1, 1)
        yield torch.where(replaced, end[row], start[row])
