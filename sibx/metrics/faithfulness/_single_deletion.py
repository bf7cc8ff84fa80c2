"""Single deletion: is a segment worth what the map says, when it alone is gone?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sibx._checks import check_case, check_integer
from sibx._outputs import Output
from sibx._precise import precise, within_range
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.faithfulness._irof import check_segments, superpixels_of
from sibx.metrics.frames import run
from sibx.metrics.probability import Model, logit
from sibx.metrics.similarity import centered_ranks, pearson
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


def single_deletion(
    model: Model,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    segments: Tensor,
    *,
    output: Output = "auto",
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """Spearman's rank correlation, over segments, of their attributions with the fall of the logit when one is gone.

    Every segment is removed from the whole image, one at a time, so that no removal depends on the others, as it does
    in ``irof``. Range [-1, 1], higher is better: 1 where the segments are worth something in the order in which the map
    names them, -1 in the opposite order. Sums of attributions count, so that a flat map names the large segments.
    L + 1 forward passes of one image each, for L segments.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        attributions: (B, 1, H, W), with their sign, or heatmaps.
        targets: (B,) the class explained.
        segments: (B, 1, H, W) integers, a number per segment, such as ``superpixels`` returns, or the parts of objects.
        output: what the logits are, see ``sibx.models.Output``.
        baseline: what a segment is replaced by, see ``make_baseline``.
        normalization: normalization of the images, for the baseline ``black``.
        batch_size: perturbed images per forward pass; segments of different images share a pass.
        seed: seed of the baseline ``noise``.

    Returns:
        (B,) float64, NaN where the attributions are not finite, or those of all segments or all falls are equal.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Hesse et al., arXiv 2308.06248 (FunnyBirds). There parts of a rendered bird are removed, and the score is
    (1 + r) / 2; here segments are replaced, and it is r.
    """
    check_case(images, attributions, targets, "attributions")
    check_segments(segments, attributions)
    check_integer("batch_size", batch_size, 1)
    gone = make_baseline(images, baseline, normalization, seed)
    numbers = [s.flatten().unique(return_inverse=True)[1].view(s.shape) for s in segments]  # 0, ..., L - 1
    sizes = [int(n.max()) + 1 for n in numbers]
    counts = torch.tensor([size + 1 for size in sizes], dtype=torch.int64, device=targets.device)
    frames = _frames(images, gone, numbers)
    left = run(model, frames, targets.repeat_interleave(counts), images, batch_size, output=output, score=logit).cpu()
    score = left.new_empty(len(sizes))
    for row, scores in enumerate(left.split(counts.tolist()) if sizes else ()):
        values = within_range(precise(attributions[row].detach()).flatten(1)).flatten().cpu()
        sums = scores.new_zeros(sizes[row]).index_add(0, numbers[row].flatten().cpu(), values.to(scores))
        falls = scores[0] - scores[1:]
        finite = sums.isfinite().all() & falls.isfinite().all()
        ranks = [centered_ranks(part.unsqueeze(0)) for part in (sums, falls)]
        score[row] = pearson(*ranks)[0] if finite else torch.nan
    return score


def _single_deletion(e: Explained) -> Tensor:
    return single_deletion(
        e.model,
        e.images,
        e.signed,
        e.targets,
        e.once(superpixels_of),
        output=e.output,
        batch_size=e.batch_size,
        seed=e.seed,
    )


SINGLE_DELETION = MetricSpec(
    name="single_deletion",
    title="Single deletion",
    formula="rank correlation, over superpixels, of sum a with the fall of the logit when one alone becomes the mean",
    score=_single_deletion,
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Hesse 2023, arXiv 2308.06248",
)


def _frames(images: Tensor, gone: Tensor, numbers: list[Tensor]) -> Iterator[Tensor]:
    """Yield every image (C, H, W), and it without each of its segments."""
    for image, empty, of_pixels in zip(images, gone, numbers, strict=True):
        yield image
        for segment in range(int(of_pixels.max()) + 1):
            yield torch.where(of_pixels == segment, empty, image)
