"""Infidelity: how far are attributions from what the model loses when a square of the image goes?"""

from collections.abc import Iterator

import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor

from sibx._checks import check_case, check_integer
from sibx._outputs import Output
from sibx._precise import precise, within_range
from sibx._seeds import content_seed
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.probability import Model, logit
from sibx.metrics.spec import RANDOM_MAP, MetricSpec

SAMPLES = 100
SIDES, UNITS = 10, 28  # of the squares: 1 to 10 of the 28 pixels that an image of the paper's has
TOGETHER = 20  # squares of an image in one call; a fixed number, so that sums round alike whatever the batch size


def infidelity(
    model: Model,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    *,
    samples: int = SAMPLES,
    output: Output = "auto",
    baseline: Baseline = "mean",
    normalization: Normalization | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """``E_S[(beta sum_S a - (f(x) - f(x without S)))^2]``, f the logit of the class, S a random square of the image.

    beta is the factor with which the attributions fit best, so their scale does not count, and neither does a common
    sign: a map and its negative score the same. In squared logits, so compare methods on one model. Range [0, E (f(x) -
    f(x without S))^2], lower is better: 0 where the attributions of every square are proportional to what it is worth.
    Chance is what a random map gets; a flat map already says that larger squares are worth more.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        attributions: (B, 1, H, W), with their sign, or heatmaps.
        targets: (B,) the class explained.
        samples: random squares per image, at least 1. Their sides are k / 28 of the shorter side of the image, k = 1,
            ..., 10, each as likely as the others and so is each place.
        output: what the logits are, see ``sibx.models.Output``.
        baseline: what removed pixels are replaced by, see ``make_baseline``.
        normalization: normalization of the images, for the baseline ``black``.
        batch_size: largest forward pass; no pass holds more than 20 images.
        seed: seed of the random squares, which depend on it and the image's values.

    Returns:
        (B,) float64, NaN where the attributions are zero everywhere or not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Yeh et al., NeurIPS 2019, arXiv 1901.09392, square removal with the optimal scaling of its experiments,
    through captum.metrics.infidelity. Ours: squares are drawn at random, there all of them are taken; attributions of
    pixels, not of single channels.
    """
    check_case(images, attributions, targets, "attributions")
    check_integer("samples", samples, 1)
    check_integer("batch_size", batch_size, 1)
    gone = make_baseline(images, baseline, normalization, seed)
    maps = within_range(precise(attributions.detach()).flatten(1)).view_as(attributions)
    scores = [maps.new_empty(0)]
    for row in range(len(images)):
        image, a, empty, target = (part[row : row + 1] for part in (images, maps, gone, targets))
        squares = _squares(image, samples, seed)
        scores.append(_of_image(model, image, a, empty, target, squares, samples, batch_size, output))
    score = torch.cat(scores).clamp(min=0)  # captum's difference of squares may round below 0
    flat = maps.flatten(1)
    return score.masked_fill(~(flat.isfinite().all(1) & (flat != 0).any(1)), torch.nan)


def _infidelity(e: Explained) -> Tensor:
    return infidelity(e.model, e.images, e.signed, e.targets, output=e.output, batch_size=e.batch_size, seed=e.seed)


INFIDELITY = MetricSpec(
    name="infidelity",
    title="Infidelity",
    formula="mean over random squares of (beta sum_S a - (f(x) - f(x without S)))^2, with the beta that fits best",
    score=_infidelity,
    higher_is_better=False,
    bounds=(0.0, float("inf")),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Yeh 2019, arXiv 1901.09392",
)


def _of_image(
    model: Model,
    image: Tensor,
    attributions: Tensor,
    gone: Tensor,
    target: Tensor,
    squares: Iterator[Tensor],
    samples: int,
    batch_size: int,
    output: Output,
) -> Tensor:
    """Captum's score (1,) of one image (1, C, H, W)."""

    def remove(copies: Tensor) -> tuple[Tensor, Tensor]:
        removed = torch.cat([next(squares) for _ in copies])
        return removed.expand_as(copies), torch.where(removed, gone, copies)

    def score(x: Tensor) -> Tensor:
        return logit(model, x, target.expand(len(x)), batch_size, output=output).to(attributions.device)

    value: Tensor = captum_infidelity(
        score,
        remove,
        image,
        (attributions / image.shape[1]).expand_as(image),  # whose sum over channels is the pixel's
        n_perturb_samples=samples,
        max_examples_per_batch=min(TOGETHER, samples),
        normalize=True,
    )
    return value


def _squares(image: Tensor, samples: int, seed: int) -> Iterator[Tensor]:
    """Yield random squares of an image (1, C, H, W) as masks (1, 1, H, W)."""
    generator = torch.Generator().manual_seed(content_seed(image, seed))
    height, width = image.shape[2:]
    for _ in range(samples):
        side = max(1, round((1 + _draw(SIDES, generator)) / UNITS * min(height, width)))
        top, left = _draw(height - side + 1, generator), _draw(width - side + 1, generator)
        square = torch.zeros(1, 1, height, width, dtype=torch.bool, device=image.device)
        square[..., top : top + side, left : left + side] = True
        yield square


def _draw(count: int, generator: torch.Generator) -> int:
    """One of 0, ..., count - 1."""
    return int(torch.randint(count, (), generator=generator))
