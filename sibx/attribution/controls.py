"""Maps that never look at the model: they show which localization score needs no explanation at all."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from sibx._checks import check_images
from sibx._seeds import content_seed
from sibx.attribution.safe import Tensors

CENTER_SIGMA = 0.25  # standard deviation of the centered blob, in image sides


class ControlMap(Attribution):
    """A map of the image alone, in the form of a Captum attribution.

    Args:
        draw: function from images (B, C, H, W) to a map (B, C or 1, H, W), at least 0; the map of an image may not
            depend on the other images.
    """

    def __init__(self, draw: Callable[[Tensor], Tensor]):
        super().__init__(draw)

    @log_usage()
    def attribute(self, inputs: Tensors, target: Any = None, additional_forward_args: Any = None) -> Tensors:
        """Return the map of the images; ``target`` and ``additional_forward_args`` are ignored.

        Raises:
            ValueError: inputs that are not floating-point images (B, C, H, W).
        """
        if isinstance(inputs, tuple):
            return tuple(self._draw(images) for images in inputs)
        return self._draw(inputs)

    def _draw(self, images: Tensor) -> Tensor:
        check_images(images, "inputs")
        control: Tensor = self.forward_func(images.detach()).expand_as(images).contiguous()
        return control


def abs_input(images: Tensor) -> Tensor:
    """|x|: distance of every pixel from the data set's mean, per channel."""
    return images.abs()


def input_contrast(images: Tensor) -> Tensor:
    """|x - mean|: distance of every pixel from its own image's mean, per channel."""
    return (images - images.mean((2, 3), keepdim=True)).abs()


def edges(images: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient, per channel: an edge detector, which many gradient maps resemble.

    ``sqrt((gx^2 + gy^2) / 2)`` with the kernel (1, 2, 1) / 4 along an edge and (1, 0, -1) across; borders are repeated.
    Source of the control: Adebayo et al., arXiv 1810.03292.
    """
    smooth, edge = images.new_tensor([1, 2, 1]) / 4, images.new_tensor([1, 0, -1])
    kernel = torch.outer(smooth, edge)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)
    gradients = F.conv2d(padded, torch.stack([kernel, kernel.T]).unsqueeze(1))
    return gradients.square().mean(1).sqrt().view_as(images)


def center(images: Tensor) -> Tensor:
    """A Gaussian blob in the middle of the image, one quarter of a side wide (standard deviation), maximum 1."""
    along = [torch.linspace(-0.5, 0.5, n, dtype=images.dtype, device=images.device) for n in images.shape[2:]]
    y, x = torch.meshgrid(*along, indexing="ij")
    return torch.exp(-(y**2 + x**2) / (2 * CENTER_SIGMA**2)).expand(len(images), 1, *images.shape[2:])


def random(images: Tensor) -> Tensor:
    """Independent uniform noise, seeded by the image's content so that it does not depend on the batch."""
    rows = []
    for image in images:
        generator = torch.Generator().manual_seed(content_seed(image))
        rows.append(torch.rand(1, *image.shape[1:], generator=generator))
    return torch.stack(rows).to(images) if rows else images[:, :1]
