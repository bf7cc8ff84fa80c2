"""Completeness: do the attributions add up to what the image changes in the logit?"""

import torch
from torch import Tensor

from sibx._checks import check_case, check_images, require
from sibx._outputs import Output
from sibx._precise import precise
from sibx.metrics.explained import Explained
from sibx.metrics.probability import Model, logit
from sibx.metrics.spec import MetricSpec


def completeness(
    model: Model,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    output: Output = "auto",
    batch_size: int = 64,
) -> Tensor:
    """``|sum a - (z(x) - z(b))| / |z(x) - z(b)|``, z the logit of the class and b the baseline; the relative error.

    Range [0, inf), lower is better: 0 where the attributions account for the whole change, 1 where they add up to 0.
    It says whether a method keeps what it promises on this model (enough steps, a rule for every layer), not whether
    the places are right: any map can be scaled to 0. Where image and baseline have nearly the same logit, small errors
    are large shares, so read the median. Two forward passes per image.

    Args:
        model: images -> logits (B, K).
        images: x, (B, C, H, W), normalized.
        attributions: a, (B, 1, H, W), with their sign, in units of the logit.
        targets: (B,) the class explained.
        baselines: b, (B, C, H, W), where the method's attributions start.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: images per forward pass.

    Returns:
        (B,) float64, NaN where the attributions are zero everywhere or not finite, or image and baseline have the same
        logit.

    Raises:
        ValueError: a wrong shape or dtype.

    Source: Sundararajan et al., arXiv 1703.01365 (the axiom).

    Example:
        >>> images, baselines = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
        >>> halves = torch.full((1, 1, 2, 2), 1.5)  # of what every pixel adds to the sum of all values, 3
        >>> completeness(lambda x: x.sum((2, 3)).sum(1, keepdim=True), images, halves, torch.tensor([1]), baselines)
        tensor([0.5000], dtype=torch.float64)
    """
    check_case(images, attributions, targets, "attributions")
    check_images(baselines, "baselines")
    shape = tuple(images.shape)
    require(tuple(baselines.shape) == shape, "baselines", f"have the shape of the images, {shape}", baselines)
    after, before = (logit(model, x, targets, batch_size, output=output) for x in (images, baselines))
    flat = precise(attributions.detach()).flatten(1)
    change = (after - before).to(flat.device)
    score = (flat.sum(1) - change).abs() / change.abs()
    return score.masked_fill(~(score.isfinite() & (flat != 0).any(1)), torch.nan)


def _completeness(e: Explained) -> Tensor:
    """Score the methods that promise it; of others there is nothing to add up."""
    if e.baseline is None:
        return torch.full((len(e.images),), torch.nan, dtype=torch.float64)
    check_images(e.images)
    baselines = e.baseline(e.images)
    return completeness(e.model, e.images, e.signed, e.targets, baselines, output=e.output, batch_size=e.batch_size)


COMPLETENESS = MetricSpec(
    name="completeness",
    title="Completeness error",
    formula="|sum a - (z(x) - z(b))| / |z(x) - z(b)|, z the logit, b the method's baseline",
    score=_completeness,
    higher_is_better=False,
    bounds=(0.0, float("inf")),
    chance="1 for attributions that add up to 0; undefined for a method that does not promise it",
    needs_model=True,
    reference="Sundararajan 2017, arXiv 1703.01365",
)
