"""Images without information: what deletion, insertion and Integrated Gradients compare with."""

import math
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sibx._checks import check_choice, check_images, require
from sibx.datasets.transforms import Normalization

Baseline = Literal["mean", "black", "blur", "noise"]
BASELINES = ("mean", "black", "blur", "noise")
BLUR_SIGMA, BLUR_SIDE = 5.0, 224  # pixels at an image side of 224, in proportion otherwise


def make_baseline(
    images: Tensor, baseline: Baseline, normalization: Normalization | None = None, seed: int = 0
) -> Tensor:
    """Return the baseline of normalized images, (B, C, H, W).

    Args:
        images: (B, C, H, W), floating point, normalized.
        baseline: ``mean``: the data set's mean, 0 in normalized space; ``black``: pixels of 0, needs ``normalization``;
            ``blur``: a true Gaussian with sigma 5 px at a side of 224, in proportion, reflecting borders; ``noise``:
            standard normal in normalized space, the same for every image.
        normalization: of the images.
        seed: of the noise.

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
    sigma = BLUR_SIGMA * max(images.shape[2:]) / BLUR_SIDE
    kernel = 2 * min(math.ceil(4 * sigma), min(images.shape[2:]) - 1) + 1
    blurred: Tensor = tv.gaussian_blur(images, [kernel, kernel], [sigma, sigma])
    return blurred
