"""From pixels to the normalized values that a model sees, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Normalization:
    """Per-channel ``(x - mean) / std`` and its inverse.

    Attributes:
        mean: mean of every channel, in units of pixels in [0, 1].
        std: standard deviation of every channel, in the same units.

    Example:
        >>> normalization = Normalization(mean=(0.5,), std=(0.25,))
        >>> normalization(torch.ones(1, 1, 1)).item()
        2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels in [0, 1], shape (..., C, H, W), to the values a model sees."""
        return (pixels - self._column(self.mean, pixels)).div_(self._column(self.std, pixels))

    def inverse(self, images: Tensor) -> Tensor:
        """Map normalized images, shape (..., C, H, W), back to pixels in [0, 1]."""
        return images * self._column(self.std, images) + self._column(self.mean, images)

    @staticmethod
    def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
