"""From pixels to the normalized values that a model sees, and back."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sibx._checks import require

ROUNDING = 1e-3  # how far outside [0, 1] resizing may put a pixel


@dataclass(frozen=True, slots=True)
class Normalization:
    """Per-channel ``(x - mean) / std`` and its inverse.

    Attributes:
        mean: mean of every channel, in units of pixels in [0, 1].
        std: standard deviation of every channel, in the same units, above 0.

    Raises:
        ValueError: numbers that are not finite, a standard deviation of 0 or less, or not one for every mean.

    Example:
        >>> normalization = Normalization(mean=(0.5,), std=(0.25,))
        >>> normalization(torch.ones(1, 1, 1)).item()
        2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require(all(map(math.isfinite, self.mean)), "mean", "hold finite numbers", self.mean)
        require(all(0 < s < math.inf for s in self.std), "std", "hold finite numbers above 0", self.std)
        one_each = len(self.mean) == len(self.std)
        require(one_each, "std", f"hold a number for each of the {len(self.mean)} channels", self.std)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels in [0, 1], shape (..., C, H, W), to the values a model sees.

        Raises:
            ValueError: no floating-point tensor, or another number of channels.
        """
        return (pixels - self._column(self.mean, pixels)).div_(self._column(self.std, pixels))

    def inverse(self, images: Tensor) -> Tensor:
        """Map normalized images, shape (..., C, H, W), back to pixels in [0, 1].

        Raises:
            ValueError: no floating-point tensor, or another number of channels.
        """
        return images * self._column(self.std, images) + self._column(self.mean, images)

    def _column(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        floating = isinstance(like, Tensor) and like.is_floating_point()
        require(floating, "images", "be a floating-point tensor (bytes / 255)", like)
        fits = like.ndim >= 3 and like.shape[-3] == len(values)
        require(fits, "images", f"have the {len(values)} channels of the normalization, (..., C, H, W)", like)
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


@dataclass(frozen=True, slots=True)
class Unchanged(Normalization):
    """No normalization: a model sees images of any number of channels as they are.

    They are pixels if they lie in [0, 1]. If they do not, they were normalized in a way that nobody has told, and have
    no pixels: they can be trained on and explained, but not drawn, corrupted, or given other backgrounds.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the pixels, shape (..., C, H, W)."""
        return pixels

    def inverse(self, images: Tensor) -> Tensor:
        """Return the images, shape (..., C, H, W).

        Raises:
            ValueError: images that are not pixels in [0, 1].
        """
        known = not images.numel() or are_pixels(images)
        rule = "say how its images were normalized (`normalized=` of sibx.wrap) where pixels in [0, 1] are needed"
        require(known, "dataset", rule, f"values from {images.min():.3g} to {images.max():.3g}" if not known else None)
        return images


def are_pixels(images: Tensor) -> bool:
    """Whether all values lie in [0, 1], up to what resizing does."""
    low, high = torch.stack(images.aminmax()).tolist()
    return bool(low >= -ROUNDING and high <= 1 + ROUNDING)


IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
