"""Sanity: does the heatmap become more complex when the model's parameters are drawn again?"""

import copy

import torch
from torch import Tensor, nn

from sibx._checks import check_explained
from sibx.metrics.complexity import BINS, histogram_entropy
from sibx.metrics.explained import Explained
from sibx.metrics.sanity.copies import ExplainWith, check_inputs, rebuildable
from sibx.metrics.spec import MetricSpec
from sibx.models._redraw import layers_inside, redraw
from sibx.models.layers import eval_mode


def complexity_rise(
    model: nn.Module,
    explain_with: ExplainWith,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    bins: int = BINS,
    seed: int = 0,
) -> Tensor:
    """Efficient MPRT: relative rise of the heatmap's complexity when all parameters are drawn again, ``(H' - H) / H``.

    H is the entropy of the histogram of the map's values (``histogram_entropy``). Range [-1, inf), higher is better:
    an explanation of a random model should be less ordered; 0 is a map that does not see the parameters, -1 one that
    goes silent, as CAMs of random models often do. One more explanation per image.

    Args:
        model: images -> logits (B, K); copied.
        explain_with: model -> function (images, targets) -> heatmaps.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0, of the model itself.
        targets: (B,) the class explained, by both models the same.
        bins: number of bins of the histogram, at least 2.
        seed: seed of the random parameters.

    Returns:
        (B,) float64, NaN where a map is not finite, or the heatmap is constant (H = 0).

    Raises:
        ValueError: a model that is no module or has no parameters, a wrong shape or dtype, fewer than 2 bins, or
            ``explain_with`` that does not give heatmaps.

    Source: Hedstroem et al., arXiv 2401.06465 (100 bins). Heatmaps, at least 0, take the place of its signed
    attributions.
    """
    check_inputs(model, images, heatmaps, targets)
    with eval_mode(model):
        changed = copy.deepcopy(model)
        redraw(changed, layers_inside(changed, ""), seed)
        others = check_explained(explain_with(changed)(images, targets), images, "explain_with")
    before, after = histogram_entropy(heatmaps, bins), histogram_entropy(others.to(heatmaps.device), bins)
    return ((after - before) / before).masked_fill(before == 0, torch.nan)


def _complexity_rise(e: Explained) -> Tensor:
    return complexity_rise(*rebuildable(e), e.images, e.heatmaps, e.targets, seed=e.seed)


COMPLEXITY_RISE = MetricSpec(
    name="complexity_rise",
    title="Rise of complexity (eMPRT)",
    formula="(H' - H) / H, H the entropy of the values of a in 100 bins, H' that with all parameters drawn again",
    score=_complexity_rise,
    higher_is_better=True,
    bounds=(-1.0, float("inf")),
    chance="0 for a map that does not see the parameters",
    needs_model=True,
    needs_module=True,
    reference="Hedstroem 2024, arXiv 2401.06465",
)
