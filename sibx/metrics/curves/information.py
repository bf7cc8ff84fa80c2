"""Performance information curves: what does the model answer, over the information that an image holds?

Pixels come on a blurred image from the most relevant down. A map is good if few bits make the model sure, whatever
share of the pixels they are: what counts is the size of the picture, compressed without loss.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sibx._checks import require
from sibx._outputs import Output
from sibx.images.normalization import Normalization
from sibx.metrics.curves._perturbations import SHARP, Perturbations, perturbations
from sibx.metrics.explained import Explained
from sibx.metrics.spec import RANDOM_MAP, MetricSpec

SURE = 0.8  # smallest probability of the clean image whose curve says something, the authors' value
EFFORT = 0  # of WebP's 0 to 6: 10 ms per picture of 224 px instead of 250 ms; sizes count in proportion only
GRID = 20  # equal parts of [0, 1] in which curves are kept for pictures


class InformationCurves(NamedTuple):
    """The model's answers over the information in the image, from the blurred image to the clean one.

    Attributes:
        information: (B, 15) float64, in [0, 1] from the size of the blurred image to that of the clean one.
        performance: (B, 15) float64, in [0, 1] from the answer to the blurred image to that to the clean one, the best
            so far.
        auc: (B,) float64, area under performance over information, in [0, 1]; NaN where undefined.
    """

    information: Tensor
    performance: Tensor
    auc: Tensor


class Sharpened(NamedTuple):
    """What both curves of a batch are made of.

    Attributes:
        sizes: (B, 15) bytes of the pictures.
        answers: (B, 15, 2) probability of the target, and whether it is predicted.
        defined: (B,) bool, whether the heatmap orders the pixels.
    """

    sizes: Tensor
    answers: Tensor
    defined: Tensor


def sic(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    normalization: Normalization,
    output: Output = "auto",
    batch_size: int = 64,
    seed: int = 0,
) -> InformationCurves:
    """Softmax information curve: the probability of the target over the information in the image; higher is better.

    0, .5, 1, 2, 3, 4, 5, 7, 10, 13, 21, 34, 50, 75 and 100 % of the pixels, the most relevant ones, are sharp, the
    others blurred. Information is the size of that picture as a lossless WebP. Both are scaled to 0 for the blurred
    image and 1 for the clean one, what lies beyond is 0 or 1, and the probability is the largest so far. Range [0, 1].

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W) with 1 or 3 channels, normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        normalization: normalization of the images, which tells their pixels.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: perturbed images per forward pass.
        seed: seed of the random order of pixels that tie.

    Returns:
        InformationCurves; chance is the curve of a random map, not a fixed number. The area is NaN where the heatmap is
        zero everywhere or not finite, where the clean image has a probability below .8, or none above that of the
        blurred image, or no more bytes than it, and for ``raw`` scores.

    Raises:
        ValueError: a wrong shape, dtype or range, or images of 2, 4 or more channels.

    Source: Kapishnikov et al., arXiv 1906.02825.
    """
    runs = Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        batch_size=batch_size,
        seed=seed,
    )
    return _soft(_sharpened(runs))


def aic(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    normalization: Normalization,
    output: Output = "auto",
    batch_size: int = 64,
    seed: int = 0,
) -> InformationCurves:
    """Accuracy information curve: whether the target is predicted, over the information in the image; higher is better.

    The pictures are those of ``sic``. Once the target is predicted the curve stays at 1, so that the area says how much
    information was missing until then; its mean over images is that under the mean curve. Range [0, 1].

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W) with 1 or 3 channels, normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        normalization: normalization of the images, which tells their pixels.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: perturbed images per forward pass.
        seed: seed of the random order of pixels that tie.

    Returns:
        InformationCurves; chance is the curve of a random map, not a fixed number. The area is NaN where the heatmap is
        zero everywhere or not finite, where the clean image is not predicted to be the target, or the blurred image is,
        or has no fewer bytes, and for ``raw`` scores.

    Raises:
        ValueError: a wrong shape, dtype or range, or images of 2, 4 or more channels.

    Source: Kapishnikov et al., arXiv 1906.02825.
    """
    runs = Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        batch_size=batch_size,
        seed=seed,
    )
    return _hard(_sharpened(runs))


def _sharpened(runs: Perturbations) -> Sharpened:
    sizes = [_bytes_of(frame, runs.normalization) for frame in runs.sharpened()]
    return Sharpened(torch.tensor(sizes, dtype=torch.float64).view(-1, len(SHARP) + 2), runs.sharpening(), runs.defined)


def _bytes_of(image: Tensor, normalization: Normalization | None) -> int:
    """Return the size of a normalized image (C, H, W) as a picture, compressed without loss."""
    require(normalization is not None, "normalization", "be given, for the pixels of the images", None)
    assert normalization is not None
    require(image.shape[0] in (1, 3), "images", "have 1 or 3 channels, to be pictures", image)
    pixels = normalization.inverse(image).clamp(0, 1).mul(255).round().byte().expand(3, -1, -1)
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(file, "WEBP", lossless=True, quality=100, method=EFFORT)
    return file.tell()


def _soft(s: Sharpened) -> InformationCurves:
    performance, predicted = s.answers.unbind(2)
    known = ~predicted[:, -1].isnan()  # raw scores are no probabilities
    return _curves(s, performance, known & (performance[:, -1] >= SURE))


def _hard(s: Sharpened) -> InformationCurves:
    performance = s.answers[..., 1]
    return _curves(s, performance, performance[:, -1] == 1)


def _curves(s: Sharpened, performance: Tensor, sure: Tensor) -> InformationCurves:
    """Scale both (B, S), and take the area; an image that is not sure has none."""
    rises = (s.sizes[:, -1] > s.sizes[:, 0]) & (performance[:, -1] > performance[:, 0])
    x, y = _scaled(s.sizes), _scaled(performance).cummax(1).values
    # Few pixels on a blur may take more bytes than many, so the points are sorted; the ends stay at the ends.
    order = torch.cat([x[:, :1] - 1, x[:, 1:-1], x[:, -1:] + 1], 1).argsort(dim=1, stable=True)
    x, y = x.gather(1, order), y.gather(1, order)
    undefined = ~(s.defined & sure & rises)
    return InformationCurves(x, y, torch.trapezoid(y, x).masked_fill(undefined, torch.nan))


def _scaled(values: Tensor) -> Tensor:
    """Return values (B, S) so that the first is 0 and the last is 1, the others within."""
    first, last = values[:, :1], values[:, -1:]
    return ((values - first) / (last - first)).clamp(0, 1)


def sharpened(e: Explained) -> Sharpened:
    """Return what both curves of what was explained are made of."""
    return _sharpened(e.once(perturbations))


def _kept(e: Explained, name: str, curves: InformationCurves) -> Tensor:
    """Leave the curves where they are defined for the runner, at equal steps of information."""
    grid = np.linspace(0, 1, GRID + 1)
    rows = [np.interp(grid, x, y) for x, y in zip(curves.information.numpy(), curves.performance.numpy(), strict=True)]
    y = torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, GRID + 1)
    e.keep(name, torch.from_numpy(grid), y.masked_fill(curves.auc.isnan().unsqueeze(1), torch.nan))
    return curves.auc


SIC = MetricSpec(
    name="sic",
    title="SIC AUC",
    formula="area under the probability of the class over the bytes of the picture as pixels come on a blurred image, "
    "both scaled from 0 to 1",
    score=lambda e: _kept(e, "sic", _soft(e.once(sharpened))),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Kapishnikov 2019, arXiv 1906.02825",
)
AIC = MetricSpec(
    name="aic",
    title="AIC AUC",
    formula="the same area with 1 from where on the class is predicted, 0 before",
    score=lambda e: _kept(e, "aic", _hard(e.once(sharpened))),
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Kapishnikov 2019, arXiv 1906.02825",
)
