"""ADCC: average drop, coherency and complexity in one."""

import torch
from torch import Tensor

from sibx._checks import check_case, check_explained, check_integer, check_same_batch
from sibx._precise import precise
from sibx.metrics.explained import Explain, Explained
from sibx.metrics.faithfulness._confidence import Confidence, average_drop, confidence_of, scaled, through
from sibx.metrics.similarity import pearson
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


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
        heatmaps: (B, 1, H, W), floating point.
        targets: (B,) the class explained, the same for both.
        batch_size: images per explanation.

    Returns:
        (B,) float64, NaN where the heatmap is constant or not finite, and where the second one is not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or ``explain`` that does not give heatmaps.

    Source: Poppi et al., arXiv 2104.10252; r scaled to [0, 1] as there.
    """
    check_case(images, heatmaps, targets)
    check_integer("batch_size", batch_size, 1)
    mask = scaled(heatmaps)
    parts = zip(through(images, mask).split(batch_size), targets.split(batch_size), strict=True)
    second = precise(torch.cat([check_explained(explain(x, t), x) for x, t in parts])).flatten(1)
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
        explain: (images, targets) -> heatmaps, by the method that made these.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), floating point.
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
    simple = 1 - scaled(heatmaps).mean(1)
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
