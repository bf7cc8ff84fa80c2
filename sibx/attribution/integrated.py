"""Integrated Gradients, through Captum."""

from collections.abc import Callable
from typing import Any

from captum import attr as captum
from torch import Tensor

from sibx._checks import check_range
from sibx.attribution.base import SafeAttribution


class IntegratedGradients(SafeAttribution):
    """The gradient averaged along the straight path from a zero baseline, times the input: x mean_a g(a x).

    Zero is the data set's mean for images normalized by it. The attributions of an image sum to the score's difference
    between image and baseline, up to the quadrature error. Captum's step sizes are float32, so a float64 model gets
    float32 accuracy.

    Args:
        forward_func: model, or any function of the inputs.
        steps: points of the Gauss-Legendre rule.
        points_per_pass: path points (rows times steps) in one forward pass; bounds the memory.

    Raises:
        ValueError: fewer than one step or point per pass.

    Source: Sundararajan et al., arXiv 1703.01365, through ``captum.attr.IntegratedGradients``.
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, steps: int = 32, points_per_pass: int = 64):
        super().__init__(forward_func)
        check_range("steps", steps, 1)
        check_range("points_per_pass", points_per_pass, 1)
        self.steps, self.points_per_pass = steps, points_per_pass

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        method = captum.IntegratedGradients(self.forward_func)
        # Captum splits steps only, never rows: a chunk smaller than the batch would warn and be ignored.
        chunk = max(len(inputs[0]), self.points_per_pass)
        attributions = method.attribute(
            inputs,
            target=target,
            additional_forward_args=extra or None,
            n_steps=self.steps,
            internal_batch_size=chunk,
        )
        return tuple(a.to(t.dtype) for a, t in zip(attributions, inputs, strict=True))
