"""Images without information, with which deletion, insertion and Integrated Gradients compare.

An inpainted image is no such baseline. Where all pixels are removed there is nothing to inpaint from; where only the
object is removed the background stays, and a curve would stop following the map as soon as the object is gone.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_images, require
from sibx.images.normalization import Normalization

Baseline = Literal["mean", "black", "blur", "noise"]
BASELINES = ("mean", "black", "blur", "noise")
BLUR_SIGMA, BLUR_SIDE = 5.0, 224  # pixels at an image side of 224, in proportion otherwise


def make_baseline(
    images: Tensor, baseline: Baseline, normalization: Normalization | None = None, seed: int = 0
) -> Tensor:
    """Return the baseline of normalized images, (B, C, H, W).

    Args:
        images: images (B, C, H, W), floating point, normalized.
        baseline: which baseline: ``mean``: the data set's mean, 0 in normalized space; ``black``: pixels of 0, needs
            ``normalization``; ``blur``: the image blurred by a Gaussian with sigma 5 px at a side of 224 px, in
            proportion otherwise, reflecting borders; ``noise``: standard normal noise in normalized space, the same for
            every image.
        normalization: normalization of the images, for ``black``.
        seed: seed of the noise.

    Raises:
        ValueError: an unknown name, ``black`` without a normalization, or images of a wrong shape or dtype.
    """
    check_images(images)
    check_choice("baseline", baseline, BASELINES)
    if baseline == "mean":
        return torch.zeros_like(images)
    if baseline == "noise":
        draw = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed))
        return draw.to(images).expand_as(images)
    if baseline == "black":
        require(normalization is not None, "normalization", "be given for baseline='black'", None)
        assert normalization is not None
        return normalization(torch.zeros_like(images))
    return blur(images, BLUR_SIGMA * max(images.shape[2:]) / BLUR_SIDE)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) blurred by a Gaussian of ``sigma`` pixels with reflecting borders; 0 = as they are."""
    if not sigma:
        return images
    rows, columns = (_blur_matrix(n, sigma) for n in images.shape[2:])
    return rows.to(images) @ images @ columns.T.to(images)


def _blur_matrix(size: int, sigma: float) -> Tensor:
    """Return Gaussian weights (size, size) between the pixels of a line that is reflected at its ends.

    Two products with this matrix are the whole blur, ten times cheaper than a convolution with the square kernel.
    """
    reach = min(math.ceil(4 * sigma), size - 1)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    reflected = (torch.arange(size).unsqueeze(1) + offsets).abs()
    reflected = size - 1 - (size - 1 - reflected).abs()
    spread = (weights / weights.sum()).expand(size, -1)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, reflected, spread)
