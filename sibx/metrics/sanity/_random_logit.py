"""Sanity: does the heatmap change when another class is explained?"""

from collections.abc import Callable

import torch
from torch import Tensor

from sibx._checks import check_case, check_explained, check_labels, check_logits, require
from sibx._outputs import Output, by_class
from sibx._seeds import content_seed
from sibx.metrics.explained import Explain, Explained
from sibx.metrics.similarity import WINDOW, Similarity, compare
from sibx.metrics.spec import MetricSpec
from sibx.models.failures import say_why


def random_logit(
    model: Callable[[Tensor], Tensor],
    explain: Explain,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    similarity: Similarity = "ssim",
    output: Output = "auto",
    seed: int = 0,
) -> Tensor:
    """Similarity of the heatmap to that of another class, drawn at random for every image.

    Range [-1, 1], lower is better: 1 is a map that does not see the class. How much two classes' evidence overlaps is a
    matter of the data, so compare methods on the same images. One more explanation per image.

    Args:
        model: images -> logits (B, K) of at least two classes.
        explain: (images, targets) -> heatmaps.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0, of the targets.
        targets: (B,) the class explained.
        similarity: ``ssim`` or ``spearman``.
        output: what the logits are, see ``sibx.models.Output``.
        seed: seed of the random classes, which depend on it and the image's values.

    Returns:
        (B,) float64, NaN where one of the maps is not finite or the heatmap is zero everywhere, with ``spearman`` also
        where it is constant.

    Raises:
        ValueError: a wrong shape or dtype, fewer than two classes, or ``explain`` that does not give heatmaps.

    Source: Sixt et al., arXiv 1912.09818.
    """
    check_case(images, heatmaps, targets)
    with torch.inference_mode(), say_why(model, images):
        logits = model(images[:1])
    check_logits(logits, len(images[:1]))
    classes = by_class(logits, output).shape[1]
    require(classes >= 2, "model", "have at least two classes", classes)
    check_labels(targets, logits.new_zeros(len(images), classes), "targets")
    seeds = (content_seed(image, seed) for image in images)
    steps = [torch.randint(1, classes, (), generator=torch.Generator().manual_seed(s)) for s in seeds]
    others = (targets + torch.tensor(steps, dtype=targets.dtype, device=targets.device)) % classes
    explained = check_explained(explain(images, others), images)
    return compare(similarity, heatmaps, explained.to(heatmaps.device))


def _random_logit(e: Explained) -> Tensor:
    check_case(e.images, e.heatmaps, e.targets)
    if min(e.heatmaps.shape[2:]) < WINDOW:  # other metrics of an evaluation see such images all the same
        return torch.full((len(e.images),), torch.nan, dtype=torch.float64)
    return random_logit(e.model, e.explainer(), e.images, e.heatmaps, e.targets, output=e.output, seed=e.seed)


RANDOM_LOGIT = MetricSpec(
    name="random_logit",
    title="Random logit",
    formula="SSIM of a with the map of another class, drawn at random",
    score=_random_logit,
    higher_is_better=False,
    bounds=(-1.0, 1.0),
    chance="1 for a map that does not see the class",
    needs_model=True,
    reference="Sixt 2020, arXiv 1912.09818",
)
