"""Gradient methods: they change nothing outside and return detached results."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_finite, check_integer, check_seed
from sibx.attribution.cotangents import differentiate_inputs
from sibx.attribution.safe import SafeAttribution, select_scores


def score_gradients(
    forward_fn: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    target_ind: Any = None,
    additional_forward_args: Any = None,
) -> tuple[Tensor, ...]:
    """Return the gradients of the target's score for the inputs.

    The arguments are those of Captum's ``compute_gradients``, so that Captum's methods can use it as their
    ``gradient_func``: with the checks, and the errors, of all other methods.

    Raises:
        ValueError: no tensor of scores, a target that does not pick one of them per row, or a score that does not
            depend on the inputs.
    """
    outputs = run_forward(forward_fn, inputs, None, additional_forward_args)
    return differentiate_inputs(select_scores(outputs, target_ind, inputs[0].shape[0]).sum(), inputs)


class Saliency(SafeAttribution):
    """The gradient of the target's score: g = dz_t / dx, signed, in units of the score per unit of input.

    Args:
        forward_func: the model, or any function of the inputs.

    Source: Simonyan et al., arXiv 1312.6034; the values of ``captum.attr.Saliency(abs=False)``.
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return score_gradients(self.forward_func, inputs, target, extra or None)


class InputXGradient(SafeAttribution):
    """The gradient times the input: x g, signed, in units of the score.

    Args:
        forward_func: the model, or any function of the inputs.

    Zero wherever the (normalized) input is zero; compare with the control ``control_abs_input``.

    Source: Shrikumar et al., arXiv 1605.01713; the values of ``captum.attr.InputXGradient``.
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        gradients = score_gradients(self.forward_func, inputs, target, extra or None)
        return tuple(x * g for x, g in zip(inputs, gradients, strict=True))


class NoisyGradient(SafeAttribution):
    """Gradients at noisy copies of the input; subclasses say how they are combined.

    Args:
        forward_func: the model, or any function of the inputs.
        samples: number of noisy copies, one forward and backward pass each.
        noise: standard deviation of the noise as a share of each image's own range, max(x) - min(x).
        seed: seed of the noise. All images get the same random numbers, so an image's map does not depend on its batch.

    Raises:
        ValueError: fewer than one sample, or a negative noise.
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, samples: int = 16, noise: float = 0.15, seed: int = 0):
        super().__init__(forward_func)
        check_integer("samples", samples, 1)
        check_finite("noise", noise, 0)
        check_seed("seed", seed)
        self.samples, self.noise, self.seed = samples, noise, seed

    def _moments(
        self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Mean of the gradients, and sum of their squared deviations from it (Welford)."""
        generator = torch.Generator().manual_seed(self.seed)
        means, deviations = ([torch.zeros_like(t, requires_grad=False) for t in inputs] for _ in range(2))
        for count in range(1, self.samples + 1):
            noisy = tuple((t + self._draw(t, generator)).detach().requires_grad_() for t in inputs)
            gradients = score_gradients(self.forward_func, noisy, target, extra or None)
            for mean, deviation, gradient in zip(means, deviations, gradients, strict=True):
                before = gradient - mean
                mean += before / count
                deviation += before * (gradient - mean)
        return tuple(means), tuple(deviations)

    def _draw(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        flat = tensor.detach().flatten(1)
        scale = self.noise * (flat.amax(1) - flat.amin(1))
        draw = torch.randn(tensor.shape[1:], generator=generator).to(tensor)
        return draw * scale.view(-1, *[1] * (tensor.ndim - 1))


class SmoothGrad(NoisyGradient):
    """The mean gradient over noisy copies of the input: mean_i g(x + e_i), signed.

    Args:
        forward_func: the model, or any function of the inputs.
        samples: number of noisy copies, one forward and backward pass each.
        noise: standard deviation of the noise as a share of each image's own range, max(x) - min(x).
        seed: seed of the noise, which is the same for all images.

    Raises:
        ValueError: fewer than one sample, or a negative noise.

    Source: Smilkov et al., arXiv 1706.03825 (noise .1 to .2; the mean is of signed gradients, as published).
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return self._moments(inputs, target, extra)[0]


class SmoothGradSquared(NoisyGradient):
    """The mean of the squared gradient over noisy copies of the input: mean_i g(x + e_i)^2, at least 0.

    Args:
        forward_func: the model, or any function of the inputs.
        samples: number of noisy copies, one forward and backward pass each.
        noise: standard deviation of the noise as a share of each image's own range, max(x) - min(x).
        seed: seed of the noise, which is the same for all images.

    Raises:
        ValueError: fewer than one sample, or a negative noise.

    Source: Hooker et al., arXiv 1806.10758. It is the variance of VarGrad (over n) plus the square of SmoothGrad.
    """

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        means, deviations = self._moments(inputs, target, extra)
        return tuple(m.square() + d / self.samples for m, d in zip(means, deviations, strict=True))


class VarGrad(NoisyGradient):
    """The variance of the gradient over noisy copies of the input, at least 0; needs at least 2 samples.

    The sum of squared deviations from the mean is divided by n - 1, with n samples.

    Args:
        forward_func: the model, or any function of the inputs.
        samples: number n of noisy copies, one forward and backward pass each.
        noise: standard deviation of the noise as a share of each image's own range, max(x) - min(x).
        seed: seed of the noise, which is the same for all images.

    Raises:
        ValueError: fewer than two samples, or a negative noise.

    Source: Adebayo et al., arXiv 1810.03292, appendix.
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, samples: int = 16, noise: float = 0.15, seed: int = 0):
        super().__init__(forward_func, samples=samples, noise=noise, seed=seed)
        check_integer("samples", samples, 2)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return tuple(d / (self.samples - 1) for d in self._moments(inputs, target, extra)[1])
