"""Confidence: what is left of the model's probability when it sees an image through its heatmap.

The heatmap becomes a mask as published: scaled by its own minimum and maximum to [0, 1], and multiplied onto the
normalized image, so that what is masked out becomes the data set's mean (0). A constant map has no such scale; scores
are undefined (NaN) where a map is constant (so also where it is zero everywhere) or not finite.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, require
from sibx._outputs import Output
from sibx._precise import precise
from sibx.metrics.curves._perturbations import perturbations
from sibx.metrics.explained import Explained
from sibx.metrics.probability import Model, probability
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


class Confidence(NamedTuple):
    """Probability of the explained class, (B,) float64 each.

    Attributes:
        clean: Y, on the image as it is.
        masked: O, on the image times its scaled heatmap; NaN where that is constant or not finite.
    """

    clean: Tensor
    masked: Tensor


def confidence(
    model: Model,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    output: Output = "auto",
    batch_size: int = 64,
) -> Confidence:
    """Measure what ``average_drop``, ``increase_in_confidence``, ``average_gain`` and ``adcc`` are computed from.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), floating point.
        targets: (B,) the class explained.
        output: what the logits are, see ``sibx.models.Output``; ``raw`` scores stand for probabilities.
        batch_size: images per forward pass; every image takes two.

    Raises:
        ValueError: a wrong shape, dtype or range.
    """
    masked = masked_probability(model, images, heatmaps, targets, output=output, batch_size=batch_size)
    return Confidence(probability(model, images, targets, batch_size, output=output), masked)


def masked_probability(
    model: Model,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    output: Output = "auto",
    batch_size: int = 64,
) -> Tensor:
    """Probability of the target on the images times their heatmaps, scaled to [0, 1].

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), floating point.
        targets: (B,) the class explained.
        output: what the logits are, see ``sibx.models.Output``; ``raw`` scores stand for probabilities.
        batch_size: images per forward pass.

    Returns:
        (B,) float64, NaN where a heatmap is constant or not finite.

    Raises:
        ValueError: a wrong shape, dtype or range.
    """
    check_case(images, heatmaps, targets)
    mask = scaled(heatmaps)
    seen = probability(model, through(images, mask), targets, batch_size, output=output)
    return seen.masked_fill(mask.isnan().any(1), torch.nan)


def confidence_of(e: Explained) -> Confidence:
    """Return the confidence in what was explained; the clean probability is also the end point of every curve."""
    seen = masked_probability(e.model, e.images, e.heatmaps, e.targets, output=e.output, batch_size=e.batch_size)
    return Confidence(e.once(perturbations).clean_probability, seen)


def average_drop(c: Confidence) -> Tensor:
    """Share of the confidence that is lost: ``max(0, Y - O) / Y``; the paper's mean over images times 100 %.

    Range [0, 1], lower is better; 0 also where the confidence rises. NaN where Y is not above 0, and where the heatmap
    is constant or not finite. Chance is what a random map gets. A map that keeps everything would be best, so read it
    beside ``average_gain`` or in ``adcc``.

    Args:
        c: what ``confidence`` returns.

    Source: Chattopadhay et al., WACV 2018, arXiv 1710.11063.
    """
    return ((c.clean - c.masked).clamp(min=0) / c.clean).masked_fill(c.clean <= 0, torch.nan)


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

    Range {0, 1}, higher is better; chance is what a random map gets. NaN where the heatmap is constant or not finite.

    Args:
        c: what ``confidence`` returns.

    Source: Chattopadhay et al., WACV 2018, arXiv 1710.11063.
    """
    return precise(c.masked > c.clean).masked_fill((c.clean + c.masked).isnan(), torch.nan)


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

    Range [0, 1], higher is better; 0 where the confidence falls. NaN where Y is 1, and where the heatmap is constant or
    not finite. Chance is what a random map gets.

    Args:
        c: what ``confidence`` returns.

    Source: Zhang et al., Opti-CAM, CVIU 2024, arXiv 2301.07002.
    """
    return (c.masked - c.clean).clamp(min=0) / (1 - c.clean)


def _average_gain(e: Explained) -> Tensor:
    require(e.output != "raw", "output", "be 'softmax' or 'sigmoid' for average_gain, a share of 1 - Y", e.output)
    return average_gain(e.once(confidence_of))


AVERAGE_GAIN = MetricSpec(
    name="average_gain",
    title="Average gain",
    formula="max(0, O - Y) / (1 - Y)",
    score=_average_gain,
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Zhang 2024, arXiv 2301.07002",
)


def scaled(heatmaps: Tensor) -> Tensor:
    """Heatmaps in [0, 1], (B, P) float64; NaN somewhere in a row whose map is constant or not finite."""
    a = precise(heatmaps.detach()).flatten(1)
    low, high = a.aminmax(dim=1, keepdim=True)
    return (a - low) / (high - low)


def through(images: Tensor, mask: Tensor) -> Tensor:
    """Images times their masks (B, P)."""
    return images * mask.nan_to_num(0).view(-1, 1, *images.shape[2:]).to(images.dtype)
