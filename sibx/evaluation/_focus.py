"""Focus: of a mosaic of images, how much of the heatmap lies on those of the class explained?"""

from collections.abc import Callable

import torch
from torch import Tensor

from sibx._checks import check_explained, check_integer
from sibx.datasets.base import MaskedBatch, MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.metrics import foreground_focus


def focus(explain: Callable[[Tensor, Tensor], Tensor], mosaics: MaskedDataset, batch_size: int = 32) -> Tensor:
    """Foreground focus of mosaics: the share of the heatmap in the two quadrants of the class explained.

    Range [0, 1], higher is better; chance is 0.5, which a map that does not depend on the class scores on average.

    Args:
        explain: (images (B, C, H, W), targets (B,)) -> heatmaps (B, 1, H, W), at least 0, for the given classes.
        mosaics: ``sibx.datasets.MosaicDataset``.
        batch_size: mosaics explained at once.

    Returns:
        One value per mosaic, float64, NaN where the heatmap is zero everywhere or not finite.

    Raises:
        ValueError: ``batch_size`` below 1, or ``explain`` does not return heatmaps of the mosaics.

    Source: Arias-Duart et al., arXiv 2109.15035, positive relevance only.
    """
    check_integer("batch_size", batch_size, 1)

    def score(batch: MaskedBatch) -> Tensor:
        heatmaps = check_explained(explain(batch.images, batch.labels), batch.images)
        return foreground_focus(heatmaps, batch.masks.to(heatmaps.device))

    return torch.cat([score(batch) for batch in load_batches(mosaics, batch_size)])
