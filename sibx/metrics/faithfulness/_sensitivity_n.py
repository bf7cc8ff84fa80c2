"""Sensitivity-n: do attributions add up to what the model loses when n pixels go, whichever they are?"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, check_integer, require
from sibx._outputs import Output
from sibx._precise import precise, within_range
from sibx._seeds import content_seed
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.frames import replace, run
from sibx.metrics.probability import Model, logit
from sibx.metrics.similarity import pearson
from sibx.metrics.spec import MetricSpec

FRACTIONS, SUBSETS = (0.05, 0.2, 0.8), 100


class SensitivityN(NamedTuple):
    """How well sums of attributions follow the model's output, for every n.

    Attributes:
        fractions: (S,) float64, true shares n / (H W), ascending.
        correlations: (B, S) float64, in [-1, 1].
        score: (B,) float64, their mean.
    """

    fractions: Tensor
    correlations: Tensor
    score: Tensor


def sensitivity_n(
    model: Model,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    subsets: int = SUBSETS,
    output: Output = "auto",
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> SensitivityN:
    """Pearson's correlation, over random sets S of n pixels, of sum_S a with the fall of the logit when S is removed.

    Range [-1, 1], higher is better: 1 where the attributions of any n pixels are proportional to what these are worth
    (for a linear model those are w (x - baseline)), chance is 0, and attributions with the opposite sign score the
    opposite value. As many forward passes of one image each as there are subsets and fractions; sets of a smaller n are
    parts of those of a larger one.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        attributions: (B, 1, H, W), with their sign, or heatmaps.
        targets: (B,) the class explained.
        fractions: n as shares of the pixels, ascending, between 0 and 1; rounded to at least 1 pixel.
        subsets: random sets for every n, at least 2.
        output: what the logits are, see ``sibx.models.Output``.
        baseline: what removed pixels are replaced by, see ``make_baseline``.
        normalization: normalization of the images, for the baseline ``black``.
        batch_size: perturbed images per forward pass.
        seed: seed of the random sets, which depend on it and the image's values.

    Returns:
        SensitivityN. A correlation is NaN where the attributions are not finite, or one of its sides is the same for
        all sets (so for a flat map), the score where a correlation is.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Ancona et al., ICLR 2018, arXiv 1711.06104 (100 sets; n from 1 to 80 % of the features). Ours: a feature is
    a pixel with all its channels, n is one of few, and the score is the mean over them.
    """
    check_case(images, attributions, targets, "attributions")
    ascending = len(fractions) > 0 and list(fractions) == sorted(fractions) and 0 < fractions[0] <= fractions[-1] < 1
    require(ascending, "fractions", "ascend between 0 and 1", fractions)
    check_integer("subsets", subsets, 2)
    check_integer("batch_size", batch_size, 1)
    pixels = images.shape[2:].numel()
    counts = [max(1, round(share * pixels)) for share in fractions]
    gone = make_baseline(images, baseline, normalization, seed)
    repeated = targets.repeat_interleave(subsets * len(counts))
    frames = _frames(images, gone, counts, subsets, seed)
    left = run(model, frames, repeated, images, batch_size, output=output, score=logit)
    worth = -left.view(len(images), subsets, len(counts)).cpu()  # less a constant, which no correlation sees
    sums = [_sums(a, image, counts, subsets, seed) for a, image in zip(attributions, images, strict=True)]
    found = worth.new_empty(len(images), len(counts))
    for row, s, w in zip(found, sums, worth, strict=True):
        row.copy_(pearson(s.T, w.T))
    return SensitivityN(torch.tensor(counts, dtype=torch.float64) / pixels, found, found.mean(1))


def _sensitivity_n(e: Explained) -> Tensor:
    """Return the score, leave the correlation for every n."""
    found = sensitivity_n(e.model, e.images, e.signed, e.targets, output=e.output, batch_size=e.batch_size, seed=e.seed)
    e.keep("sensitivity_n", found.fractions, found.correlations)
    return found.score


SENSITIVITY_N = MetricSpec(
    name="sensitivity_n",
    title="Sensitivity-n",
    formula="mean over n of the correlation, over sets of n pixels, of their attributions with the fall of the logit",
    score=_sensitivity_n,
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance="0",
    needs_model=True,
    reference="Ancona 2018, arXiv 1711.06104",
)


def _orders(image: Tensor, subsets: int, seed: int) -> Iterator[Tensor]:
    """Yield the pixels of an image in random orders, whose first n are its random sets."""
    generator = torch.Generator().manual_seed(content_seed(image, seed))
    for _ in range(subsets):
        yield torch.randperm(image.shape[1:].numel(), generator=generator).to(image.device)


def _frames(images: Tensor, gone: Tensor, counts: list[int], subsets: int, seed: int) -> Iterator[Tensor]:
    for image, empty in zip(images, gone, strict=True):
        for order in _orders(image, subsets, seed):
            yield from replace(image, empty, order, counts)


def _sums(attributions: Tensor, image: Tensor, counts: list[int], subsets: int, seed: int) -> Tensor:
    """What the attributions of every set of one image add up to, (subsets, S) float64."""
    values = within_range(precise(attributions.detach()).flatten(1)).flatten()
    ends = torch.tensor(counts, device=attributions.device) - 1
    return torch.stack([values[order].cumsum(0)[ends] for order in _orders(image, subsets, seed)]).cpu()
