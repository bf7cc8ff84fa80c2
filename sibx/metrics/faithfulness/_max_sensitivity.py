"""Max-sensitivity: how much does the heatmap change when the image hardly does?"""

import torch
from captum.metrics import sensitivity_max
from torch import Tensor

from sibx._checks import check_case, check_explained, check_integer, require
from sibx._precise import precise
from sibx.metrics.explained import Explain, Explained
from sibx.metrics.faithfulness.nearby import RADIUS, SAMPLES, Nearby, remembered
from sibx.metrics.frames import orders_pixels
from sibx.metrics.spec import MetricSpec


def max_sensitivity(
    explain: Explain,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    radius: float = RADIUS,
    samples: int = SAMPLES,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """``max_y |a(y) - a(x)| / |a(x)|`` over random images y with ``|y - x| <= radius`` in every value; Euclidean norms.

    Range [0, inf), lower is better, whatever the scale of the maps. 0 is a map that does not see the image (a center,
    noise), which is stable and explains nothing, so read it beside faithfulness; 1 is reached by a map that goes
    silent. ``samples`` more explanations per image.

    Args:
        explain: (images, targets) -> heatmaps, by the method that made these.
        images: x, (B, C, H, W), normalized.
        heatmaps: a(x), (B, 1, H, W), at least 0.
        targets: (B,) the class explained, the same for all y.
        radius: above 0, in units of the normalized image: 0.02 is about one gray level of 255.
        samples: random images y, uniform in the cube, at least 1.
        batch_size: largest number of images explained at once, all of them near one x.
        seed: seed of the random y, which depend on it and the image's values.

    Returns:
        (B,) float64, NaN where the heatmap is zero everywhere or not finite, or that of a y is not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or ``explain`` that does not give heatmaps.

    Source: Yeh et al., NeurIPS 2019, arXiv 1901.09392, through captum.metrics.sensitivity_max, whose defaults these are
    and which divides by the norm of a(x). Heatmaps, at least 0, take the place of signed attributions.
    """
    check_case(images, heatmaps, targets)
    require(radius > 0, "radius", "be above 0", radius)
    check_integer("samples", samples, 1)
    check_integer("batch_size", batch_size, 1)
    maps, pixels = precise(heatmaps.detach()), images.detach()
    score = maps.new_empty(len(maps))
    for row in range(len(maps)):
        x, a, t = (part[row : row + 1] for part in (pixels, maps, targets))
        score[row] = _of_image(explain, x, a, t, radius, samples, batch_size, seed)
    return score.masked_fill(~(orders_pixels(maps) & score.isfinite()), torch.nan)


def _max_sensitivity(e: Explained) -> Tensor:
    explain = e.once(remembered)
    return max_sensitivity(explain, e.images, e.heatmaps, e.targets, batch_size=e.batch_size, seed=e.seed)


MAX_SENSITIVITY = MetricSpec(
    name="max_sensitivity",
    title="Max-sensitivity",
    formula="max |a(y) - a(x)| / |a(x)| over 10 images y within 0.02 of the image",
    score=_max_sensitivity,
    higher_is_better=False,
    bounds=(0.0, float("inf")),
    chance="0 for a map that does not see the image",
    needs_model=True,
    reference="Yeh 2019, arXiv 1901.09392",
)


def _of_image(
    explain: Explain,
    image: Tensor,
    heatmap: Tensor,
    target: Tensor,
    radius: float,
    samples: int,
    batch_size: int,
    seed: int,
) -> Tensor:
    """Captum's score (1,) of one image (1, C, H, W)."""

    def explained(x: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        if isinstance(x, tuple):  # captum asks for the image itself in this form
            return (heatmap,)
        with torch.enable_grad():  # captum explains without
            found = check_explained(explain(x, target.expand(len(x))), x)
        return (found.to(heatmap),)

    value: Tensor = sensitivity_max(
        explained,
        image,
        Nearby(image, radius, seed).move,
        n_perturb_samples=samples,
        max_examples_per_batch=min(batch_size, samples),
    )
    return value
