"""ROAD, remove and debias: does the score follow the pixels, and not the shape of the hole that they leave?

A removed pixel becomes the weighted mean of its neighbors plus a little noise, so that a model sees neither what was
there nor, as it does with a constant, where something was: that shape alone can tell the class. No model is trained
again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, check_integer, check_range, require
from sibx._outputs import Output
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.faithfulness.imputation import linear_imputation
from sibx.metrics.frames import orders_pixels, relevance_order
from sibx.metrics.probability import Model, probability
from sibx.metrics.spec import RANDOM_MAP, MetricSpec

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NOISE = 0.01


class Removal(NamedTuple):
    """Probability of the explained class with a share of the pixels imputed.

    Attributes:
        shares: (S,) float64, true shares of the pixels removed.
        morf: (B, S) float64, the most relevant pixels removed; NaN where the heatmap is zero everywhere or not finite.
        lerf: (B, S) float64, the least relevant pixels removed; NaN for the same heatmaps.
    """

    shares: Tensor
    morf: Tensor
    lerf: Tensor


def removal(
    model: Model,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    noise: float = NOISE,
    output: Output = "auto",
    normalization: Normalization | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> Removal:
    """Measure what ``road``, ``road_morf`` and ``road_lerf`` are computed from, by 2 S images per heatmap.

    Pixels of all channels go together, and are imputed by ``linear_imputation`` from those that stay. Equal heatmap
    values are ordered at random (seeded), so that exactly the share goes that was asked for.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        shares: shares of the pixels that are removed, each in (0, 1).
        noise: standard deviation of the Gaussian noise on imputed pixels, in the units of pixels in [0, 1].
        output: what the logits are, see ``sibx.models.Output``; ``raw`` scores stand for probabilities.
        normalization: normalization of the images, for those units; None = the images are in them.
        batch_size: imputed images per solve and forward pass; shares and images share one.
        seed: seed of the random order of pixels that tie and of the noise; both are the same for every image and share,
            so that a score does not depend on its batch.

    Raises:
        ValueError: a wrong shape, dtype or range.

    Source: Rong et al., ICML 2022, arXiv 2202.00449. The paper reports the accuracy over the images at every share;
    this is the probability of the explained class, which is defined for one image. The noise, in the units of pixels,
    is that of the authors' code; the nine shares are those of grad-cam.
    """
    check_case(images, heatmaps, targets)
    check_range("noise", noise, 0)
    check_integer("batch_size", batch_size, 1)
    require(len(shares) > 0 and all(0 < s < 1 for s in shares), "shares", "hold values in (0, 1)", tuple(shares))
    pixels = images.shape[2:].numel()
    counts = torch.tensor([round(share * pixels) for share in shares], device=images.device)
    ranks = _ranks(relevance_order(heatmaps, seed))
    draw = _noise(images, noise, normalization, seed)
    size = (len(images), 2, len(shares))
    values = []
    for part in torch.arange(size[0] * size[1] * size[2], device=images.device).split(batch_size):
        row, order, share = torch.unravel_index(part, size)
        removed = (ranks[row, order] < counts[share].unsqueeze(1)).view(-1, 1, *images.shape[2:])
        imputed = linear_imputation(images[row], removed).add_(draw * removed)
        values.append(probability(model, imputed, targets[row], output=output))
    p = torch.cat(values).cpu().view(size).masked_fill(~orders_pixels(heatmaps).cpu().view(-1, 1, 1), torch.nan)
    return Removal(counts.cpu().double() / pixels, p[:, 0], p[:, 1])


def removal_of(e: Explained) -> Removal:
    """Return what all ROAD scores of what was explained are read from, and leave both curves for the runner."""
    r = removal(
        e.model,
        e.images,
        e.heatmaps,
        e.targets,
        output=e.output,
        normalization=e.normalization,
        batch_size=e.batch_size,
        seed=e.seed,
    )
    e.keep("road_morf", r.shares, r.morf)
    e.keep("road_lerf", r.shares, r.lerf)
    return r


def road_morf(r: Removal) -> Tensor:
    """Mean probability over the shares with the most relevant pixels removed, (B,) float64; lower is better.

    Range [0, 1]; NaN where the heatmap is zero everywhere or not finite. Chance is what a random map gets.

    Args:
        r: what ``removal`` returns.

    Source: Rong et al., ICML 2022, arXiv 2202.00449.
    """
    return r.morf.mean(1)


ROAD_MORF = MetricSpec(
    name="road_morf",
    title="ROAD, MoRF",
    formula="mean probability of the class with the 10, 20, ..., 90 % most relevant pixels imputed",
    score=lambda e: road_morf(e.once(removal_of)),
    higher_is_better=False,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Rong 2022, arXiv 2202.00449",
)


def road_lerf(r: Removal) -> Tensor:
    """Mean probability over the shares with the least relevant pixels removed, (B,) float64; higher is better.

    Range [0, 1]; NaN where the heatmap is zero everywhere or not finite. Chance is what a random map gets.

    Args:
        r: what ``removal`` returns.

    Source: Rong et al., ICML 2022, arXiv 2202.00449.
    """
    return r.lerf.mean(1)


ROAD_LERF = MetricSpec(
    name="road_lerf",
    title="ROAD, LeRF",
    formula="mean probability of the class with the 10, 20, ..., 90 % least relevant pixels imputed",
    score=lambda e: road_lerf(e.once(removal_of)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Rong 2022, arXiv 2202.00449",
)


def road(r: Removal) -> Tensor:
    """Both orders in one: ``road_lerf - road_morf``, (B,) float64; higher is better.

    Range [-1, 1]; chance is 0: the two orders of a random map are equal in distribution, and what imputation itself
    costs the model is in both. A map and its reverse score opposite values. Twice the combined score of grad-cam, which
    takes half of the difference. NaN where the heatmap is zero everywhere or not finite.

    Args:
        r: what ``removal`` returns.

    Source: Rong et al., ICML 2022, arXiv 2202.00449.
    """
    return road_lerf(r) - road_morf(r)


ROAD = MetricSpec(
    name="road",
    title="ROAD",
    formula="road_lerf - road_morf",
    score=lambda e: road(e.once(removal_of)),
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance="0",
    needs_model=True,
    reference="Rong 2022, arXiv 2202.00449",
)


def _ranks(order: Tensor) -> Tensor:
    """Place of every pixel, (B, 2, P): from the most relevant one, and from the least relevant one."""
    places = torch.arange(order.shape[1], device=order.device)
    ranks = torch.empty_like(order).scatter_(1, order, places.expand_as(order))
    return torch.stack([ranks, order.shape[1] - 1 - ranks], 1)


def _noise(images: Tensor, noise: float, normalization: Normalization | None, seed: int) -> Tensor:
    """Of one image, (C, H, W); a share in the units of pixels is worth as much as ``normalization`` makes of it."""
    draw = noise * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed))
    if normalization is not None:
        draw = normalization(draw) - normalization(torch.zeros_like(draw))
    return draw.to(images)
