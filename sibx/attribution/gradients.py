"""Gradient methods: thin adapters over Captum that leave no trace and return detached results."""

from collections.abc import Callable
from typing import Any

import torch
from captum import attr as captum
from torch import Tensor

from sibx._checks import check_range
from sibx.attribution.base import SafeAttribution


class Saliency(SafeAttribution):
    """The gradient of the target's score: g = dz_t / dx, signed, in score per unit of input.

    Source: Simonyan et al., arXiv 1312.6034, through ``captum.attr.Saliency(abs=False)``.
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return tuple(captum.Saliency(self.forward_func).attribute(inputs, target, False, extra or None))


class InputXGradient(SafeAttribution):
    """The gradient times the input: x g, signed, in units of the score.

    Zero wherever the (normalized) input is zero; compare with the control ``control_abs_input``.

    Source: Shrikumar et al., arXiv 1605.01713, through ``captum.attr.InputXGradient``.
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return tuple(captum.InputXGradient(self.forward_func).attribute(inputs, target, extra or None))


class SmoothGrad(SafeAttribution):
    """The mean gradient over noisy copies of the input: mean_i g(x + e_i), signed.

    Args:
        forward_func: model, or any function of the inputs.
        samples: copies, one forward and backward pass each.
        noise: standard deviation of the noise as a share of each image's own range, max(x) - min(x).
        seed: of the noise. All images see the same draws, so an image's map does not depend on its batch.

    Raises:
        ValueError: fewer than one sample, or a negative noise.

    Source: Smilkov et al., arXiv 1706.03825 (noise .1 to .2; the mean is of signed gradients, as published).
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, samples: int = 16, noise: float = 0.15, seed: int = 0):
        super().__init__(forward_func)
        check_range("samples", samples, 1)
        check_range("noise", noise, 0)
        self.samples, self.noise, self.seed = samples, noise, seed

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(self.seed)
        saliency = captum.Saliency(self.forward_func)
        totals = [torch.zeros_like(t) for t in inputs]
        for _ in range(self.samples):
            noisy = tuple((t + self._draw(t, generator)).detach().requires_grad_() for t in inputs)
            gradients = saliency.attribute(noisy, target, False, extra or None)
            for total, gradient in zip(totals, gradients, strict=True):
                total.data += gradient / self.samples
        return tuple(totals)

    def _draw(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        flat = tensor.detach().flatten(1)
        scale = self.noise * (flat.amax(1) - flat.amin(1))
        draw = torch.randn(tensor.shape[1:], generator=generator).to(tensor)
        return draw * scale.view(-1, *[1] * (tensor.ndim - 1))
