"""Confidence: what is left of the model's probability when it sees an image through its heatmap.

The heatmap becomes a mask as published: scaled by its own minimum and maximum to [0, 1], and multiplied onto the
normalized image, so that what is masked out becomes the data set's mean (0). A constant map has no such scale; scores
are undefined (NaN) where a map is constant (so also where it is zero everywhere) or not finite.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, check_explained, check_range, check_same_batch
from sibx.metrics.curves._perturbations import perturbations
from sibx.metrics.explained import Explain, Explained
from sibx.metrics.probability import Model, probability
from sibx.metrics.similarity import pearson
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


class Confidence(NamedTuple):
    """Softmax probability of the explained class, (B,) float64 each.

    Attributes:
        clean: Y, on the image as it is.
        masked: O, on the image times its scaled heatmap; NaN where the module says.
    """

    clean: Tensor
    masked: Tensor


def confidence(model: Model, images: Tensor, heatmaps: Tensor, targets: Tensor, *, batch_size: int = 64) -> Confidence:
    """Measure what ``average_drop``, ``increase_in_confidence``, ``average_gain`` and ``adcc`` are computed from.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), floating point.
        targets: (B,) the class explained.
        batch_size: images per forward pass; every image takes two.

    Raises:
        ValueError: a wrong shape, dtype or range.
    """
    masked = masked_probability(model, images, heatmaps, targets, batch_size=batch_size)
    return Confidence(probability(model, images, targets, batch_size), masked)


def masked_probability(
    model: Model, images: Tensor, heatmaps: Tensor, targets: Tensor, *, batch_size: int = 64
) -> Tensor:
    """Probability of the target on the images times their scaled heatmaps, (B,) float64; as ``confidence``."""
    check_case(images, heatmaps, targets)
    mask = _scaled(heatmaps)
    seen = probability(model, _through(images, mask), targets, batch_size)
    return seen.masked_fill(mask.isnan().any(1), torch.nan)


def confidence_of(e: Explained) -> Confidence:
    """Return the confidence in what was explained; the clean probability is also the end point of every curve."""
    seen = masked_probability(e.model, e.images, e.heatmaps, e.targets, batch_size=e.batch_size)
    return Confidence(e.once(perturbations).clean_probability, seen)


def average_drop(c: Confidence) -> Tensor:
    """Share of the confidence that is lost: ``max(0, Y - O) / Y``; the paper's mean over images times 100 %.

    Range [0, 1], lower is better; 0 also where the confidence rises. NaN also where Y is 0. Chance is what a random map
    gets. A map that keeps everything would be best, so read it beside ``average_gain`` or in ``adcc``.

    Args:
        c: what ``confidence`` returns.

    Source: Chattopadhay et al., WACV 2018, arXiv 1710.11063.
    """
    return (c.clean - c.masked).clamp(min=0) / c.clean


AVERAGE_DROP = MetricSpec(
    name="average_drop",
    title="Average drop",
    formula="max(0, Y - O) / Y, the probability Y on the image and O on the image times its scaled heatmap",
    score=lambda e: average_drop(e.once(confidence_of)),
    higher_is_better=False,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Chattopadhay 2018, arXiv 1710.11063",
)


def increase_in_confidence(c: Confidence) -> Tensor:
    """Whether the confidence rises: 1 where O > Y, else 0; the paper's mean over images times 100 %.

    Range {0, 1}, higher is better; chance is what a random map gets. Argument and source as ``average_drop``.
    """
    return (c.masked > c.clean).double().masked_fill((c.clean + c.masked).isnan(), torch.nan)


INCREASE_IN_CONFIDENCE = MetricSpec(
    name="increase_in_confidence",
    title="Increase in confidence",
    formula="1 where O > Y, else 0",
    score=lambda e: increase_in_confidence(e.once(confidence_of)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Chattopadhay 2018, arXiv 1710.11063",
)


def average_gain(c: Confidence) -> Tensor:
    """Share of the possible rise in confidence that comes: ``max(0, O - Y) / (1 - Y)``.

    Range [0, 1], higher is better; 0 where the confidence falls. NaN also where Y is 1. Chance is what a random map
    gets. Argument as ``average_drop``.

    Source: Zhang et al., Opti-CAM, CVIU 2024, arXiv 2301.07002.
    """
    return (c.masked - c.clean).clamp(min=0) / (1 - c.clean)


AVERAGE_GAIN = MetricSpec(
    name="average_gain",
    title="Average gain",
    formula="max(0, O - Y) / (1 - Y)",
    score=lambda e: average_gain(e.once(confidence_of)),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Zhang 2024, arXiv 2301.07002",
)


def coherency(
    explain: Explain,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    batch_size: int = 64,
) -> Tensor:
    """Whether what a heatmap leaves of an image is explained by the same heatmap: ``(1 + r) / 2``.

    r is Pearson's correlation, over the pixels, of the heatmap of the image and that of the image times its scaled
    heatmap. Range [0, 1], higher is better; 0.5 for two unrelated maps. A second map that is constant has nothing of
    the first and scores 0. One more explanation per image.

    Args:
        explain: (images, targets) -> heatmaps, by the method that made these.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W).
        targets: (B,) the class explained, the same for both.
        batch_size: images per explanation.

    Returns:
        (B,) float64, NaN where the module says and where the second map is not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or ``explain`` that does not give heatmaps.

    Source: Poppi et al., arXiv 2104.10252; r scaled to [0, 1] as there.
    """
    check_case(images, heatmaps, targets)
    check_range("batch_size", batch_size, 1)
    mask = _scaled(heatmaps)
    parts = zip(_through(images, mask).split(batch_size), targets.split(batch_size), strict=True)
    second = torch.cat([check_explained(explain(x, t), x) for x, t in parts]).double().flatten(1)
    constant = second.isfinite().all(1) & (second == second[:, :1]).all(1)
    score = (1 + pearson(mask, second).masked_fill(constant, -1)) / 2
    return score.masked_fill(mask.isnan().any(1), torch.nan)


def adcc(
    c: Confidence,
    explain: Explain,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    batch_size: int = 64,
) -> Tensor:
    """Average drop, coherency and complexity in one: ``3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))``.

    The harmonic mean; complexity is the mean of the heatmap scaled to [0, 1]. Range [0, 1], higher is better; 0 where
    one of the three is as bad as can be. Chance is what a random map gets. One more explanation per image.

    Args:
        c: what ``confidence`` returns for the same images, heatmaps and targets.
        explain: as for ``coherency``, like all that follows.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W).
        targets: (B,) the class explained.
        batch_size: images per explanation.

    Returns:
        (B,) float64, NaN where one of the three is.

    Raises:
        ValueError: a wrong shape, dtype or range, or ``explain`` that does not give heatmaps.

    Source: Poppi et al., arXiv 2104.10252.
    """
    check_same_batch(images, c=c.clean)
    coherent = coherency(explain, images, heatmaps, targets, batch_size=batch_size)
    simple = 1 - _scaled(heatmaps).mean(1)
    return 3 / (1 / coherent + 1 / simple + 1 / (1 - average_drop(c)))


def _adcc(e: Explained) -> Tensor:
    explain = e.explainer()
    return adcc(e.once(confidence_of), explain, e.images, e.heatmaps, e.targets, batch_size=e.batch_size)


ADCC = MetricSpec(
    name="adcc",
    title="ADCC",
    formula="harmonic mean of coherency, 1 - complexity and 1 - average drop",
    score=_adcc,
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Poppi 2021, arXiv 2104.10252",
)


def _scaled(heatmaps: Tensor) -> Tensor:
    """Heatmaps in [0, 1], (B, P) float64; NaN somewhere in a row whose map is constant or not finite."""
    a = heatmaps.detach().double().flatten(1)
    low, high = a.aminmax(dim=1, keepdim=True)
    return (a - low) / (high - low)


def _through(images: Tensor, mask: Tensor) -> Tensor:
    """Images times their masks (B, P)."""
    return images * mask.nan_to_num(0).view(-1, 1, *images.shape[2:]).to(images.dtype)
