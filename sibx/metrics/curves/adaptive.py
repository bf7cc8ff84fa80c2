"""Deletion and insertion with as many steps as the curve needs: finer where the probability changes.

Between two measured points a curve is taken for a Brownian bridge, whose roughness is what the probability does there
and next to it. That gives every interval the standard deviation of its trapezoid's error; the interval with the largest
is halved until 1.96 standard deviations of the whole area lie within the tolerance. All images of a batch are refined
together, one point each per round.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import require
from sibx._outputs import Output
from sibx._precise import precise
from sibx.images.baselines import Baseline
from sibx.images.normalization import Normalization
from sibx.metrics.curves._perturbations import Perturbations
from sibx.metrics.frames import replace, run

FINEST = 224  # shares: one row of pixels each at 224 px, as fine as RISE goes
COARSEST = 7  # intervals to begin with; 224 is 7 times a power of two
NEIGHBORS = 0.3  # weight of the roughness next door, without which a bump between two equal points is never looked for
CONFIDENCE = 1.96  # standard deviations, 95 % of a normal distribution


class AdaptiveCurves(NamedTuple):
    """Probability of the explained class along a perturbation, measured where it changes.

    Attributes:
        fractions: (B, N) float64, true shares of the pixels changed, ascending from 0 to 1; rows that need fewer than N
            points repeat the last one.
        probabilities: (B, N) float64.
        auc: (B,) float64, area under the curve over [0, 1] by trapezoids, in [0, 1]; NaN where the heatmap is zero
            everywhere or not finite.
        points: (B,) int64, how many images of each row went through the model.
    """

    fractions: Tensor
    probabilities: Tensor
    auc: Tensor
    points: Tensor


def adaptive_deletion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    tolerance: float = 0.005,
    baseline: Baseline = "mean",
    output: Output = "auto",
    normalization: Normalization | None = None,
    steps: int = FINEST,
    batch_size: int = 64,
    seed: int = 0,
) -> AdaptiveCurves:
    """Estimate what ``deletion`` with many ``steps`` gives, from few of its points.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        tolerance: how far the area may be from that of all ``steps``, above 0. About 95 of 100 areas keep .005, with
            17 points for deletion and 25 for insertion on average; the rougher the curves, the fewer
            (``benchmarks/experiments/adaptive_curves.py``).
        baseline: what pixels are replaced by: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see
            ``sibx.images.make_baseline``.
        output: what the logits are, see ``sibx.models.Output``; of ``raw`` ones the curve is that of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares of the curve that is estimated; points lie on its grid.
        batch_size: perturbed images per forward pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``.

    Returns:
        AdaptiveCurves; rows do not depend on their batch.

    Raises:
        ValueError: a wrong shape, dtype or range, an unknown baseline, or a tolerance that is not above 0.
    """
    runs = Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    )
    return _follow(runs, images, runs.baseline(baseline), tolerance)


def adaptive_insertion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    tolerance: float = 0.005,
    baseline: Baseline = "blur",
    output: Output = "auto",
    normalization: Normalization | None = None,
    steps: int = FINEST,
    batch_size: int = 64,
    seed: int = 0,
) -> AdaptiveCurves:
    """Estimate what ``insertion`` with many ``steps`` gives, from few of its points.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        tolerance: how far the area may be from that of all ``steps``, above 0. About 95 of 100 areas keep .005, with
            17 points for deletion and 25 for insertion on average; the rougher the curves, the fewer
            (``benchmarks/experiments/adaptive_curves.py``).
        baseline: what the image starts from: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see
            ``sibx.images.make_baseline``.
        output: what the logits are, see ``sibx.models.Output``; of ``raw`` ones the curve is that of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares of the curve that is estimated; points lie on its grid.
        batch_size: perturbed images per forward pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``.

    Returns:
        AdaptiveCurves; rows do not depend on their batch.

    Raises:
        ValueError: a wrong shape, dtype or range, an unknown baseline, or a tolerance that is not above 0.
    """
    runs = Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    )
    return _follow(runs, runs.baseline(baseline), images, tolerance)


def _follow(runs: Perturbations, start: Tensor, end: Tensor, tolerance: float) -> AdaptiveCurves:
    require(tolerance > 0, "tolerance", "be above 0", tolerance)
    rows = torch.arange(len(start))
    positions = torch.linspace(0, runs.steps, min(COARSEST, runs.steps) + 1).round().long().expand(len(rows), -1)
    values = _measure(runs, start, end, rows, positions)
    finished = []
    while True:
        variance = _variance(positions, values, runs.steps)
        rough = CONFIDENCE * variance.sum(1).sqrt() > tolerance
        finished.append((rows[~rough], positions[~rough], values[~rough]))
        if not rough.any():
            return _collect(runs, finished)
        rows, positions, values = rows[rough], positions[rough], values[rough]
        worst = variance[rough].argmax(1, keepdim=True)
        middle = (positions.gather(1, worst) + positions.gather(1, worst + 1)) // 2
        fresh = _measure(runs, start, end, rows, middle)
        positions, order = torch.cat([positions, middle], 1).sort(1)
        values = torch.cat([values, fresh], 1).gather(1, order)


def _measure(runs: Perturbations, start: Tensor, end: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Probabilities (R, n) of these rows at these positions (R, n) of the grid, ascending."""
    frames = chain.from_iterable(
        replace(start[row], end[row], runs.order[row], [runs.counts[i] for i in places])
        for row, places in zip(rows.tolist(), positions.tolist(), strict=True)
    )
    targets = runs.targets[rows.to(runs.targets.device)].repeat_interleave(positions.shape[1])
    values = run(runs.model, frames, targets, runs.images, runs.batch_size, output=runs.output)
    return values.cpu().view(positions.shape)


def _variance(positions: Tensor, values: Tensor, steps: int) -> Tensor:
    """Variance (R, n - 1) of the error of every interval's trapezoid, against that of all its steps.

    A bridge over h that varies by s per unit has, on m equal steps, an area of variance s h^3 (1 - 1 / m^2) / 12.
    """
    widths = precise(positions.diff(dim=1))
    lengths = widths / steps
    roughness = values.diff(dim=1) ** 2 / lengths
    padded = torch.cat([roughness[:, :1], roughness, roughness[:, -1:]], 1)
    roughness = roughness + NEIGHBORS * (padded[:, :-2] + padded[:, 2:]) / 2
    return roughness * lengths**3 * (1 - widths**-2) / 12


def _collect(runs: Perturbations, finished: list[tuple[Tensor, Tensor, Tensor]]) -> AdaptiveCurves:
    """Put rows that finished with different numbers of points together, in the order of the batch."""
    longest = finished[-1][1].shape[1]
    back = torch.cat([rows for rows, _, _ in finished]).argsort()
    positions = torch.cat([_stretch(p, longest) for _, p, _ in finished])[back]
    probabilities = torch.cat([_stretch(v, longest) for _, _, v in finished])[back]
    points = torch.cat([torch.full((len(p),), p.shape[1]) for _, p, _ in finished])[back]
    fractions = torch.tensor(runs.counts, dtype=torch.float64)[positions] / runs.counts[-1]
    auc = torch.trapezoid(probabilities, fractions).masked_fill(~runs.defined, torch.nan)
    return AdaptiveCurves(fractions, probabilities, auc, points)


def _stretch(rows: Tensor, length: int) -> Tensor:
    return torch.cat([rows, rows[:, -1:].expand(-1, length - rows.shape[1])], 1)
