"""The VJP map without its high frequencies (FORGrad): what a plain filter makes of R, beside the soft mask of S-IB."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sibx._checks import check_images, check_range
from sibx.attribution.gradients import score_gradients
from sibx.attribution.safe import SafeAttribution


class LowPassGradient(SafeAttribution):
    """The gradient of the target's score without its high frequencies, signed: FORGrad.

    Striding and pooling write a pattern of high frequencies into gradients, which says nothing about the image. A
    filter takes it away, and any map that looks smoother than the gradient owes it a comparison: is R M more than a low
    pass?

    Args:
        forward_func: the model, or any function of images (B, C, H, W).
        cutoff: the largest frequency that is kept, in cycles per image side, within a circle; the mean is frequency 0.

    Attributions have the shape of the images, in units of the score per unit of input.

    Raises:
        ValueError: a cutoff below 0, or inputs that are not images (B, C, H, W).

    Source: Muzellec et al., arXiv 2307.09591; there the cutoff is chosen per network and method on held-out images.
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, cutoff: float = 14.0):
        super().__init__(forward_func)
        check_range("cutoff", cutoff, 0)
        self.cutoff = cutoff

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Low-pass gradient"

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        for images in inputs:
            check_images(images, "inputs")
        gradients = score_gradients(self.forward_func, inputs, target, extra or None)
        return tuple(low_pass(g, self.cutoff) for g in gradients)


def low_pass(maps: Tensor, cutoff: float) -> Tensor:
    """Return maps (B, C, H, W) without frequencies above ``cutoff``, in cycles per image side."""
    precise = maps.to(torch.promote_types(maps.dtype, torch.float32))  # half precision has no transform of every size
    rows = torch.fft.fftfreq(maps.shape[2], 1 / maps.shape[2], device=maps.device)
    columns = torch.fft.rfftfreq(maps.shape[3], 1 / maps.shape[3], device=maps.device)
    kept = rows[:, None].square() + columns.square() <= cutoff**2
    return torch.fft.irfft2(torch.fft.rfft2(precise) * kept, s=maps.shape[2:]).to(maps.dtype)
