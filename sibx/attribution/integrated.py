"""Integrated Gradients, through Captum, and expected gradients."""

from collections.abc import Callable
from typing import Any

import torch
from captum import attr as captum
from torch import Tensor

from sibx._checks import check_choice, check_finite, check_integer, check_seed, require
from sibx.attribution.gradients import score_gradients
from sibx.attribution.safe import SafeAttribution, Tensors
from sibx.images.baselines import BASELINES, Baseline, make_baseline
from sibx.images.normalization import Normalization


class IntegratedGradients(SafeAttribution):
    """Integrated Gradients: (x - b) mean_u g(b + u (x - b)), u from 0 to 1, signed, in units of the score.

    This is the gradient g of the target's score, averaged along the straight path from a baseline b to the input x,
    times the difference of the two. The attributions of an image sum to the difference between the scores of image and
    baseline, up to the quadrature error.
    Captum's step sizes are float32, so a float64 model gets float32 accuracy.

    Args:
        forward_func: the model, or any function of the inputs.
        steps: number of points of the Gauss-Legendre rule on the path.
        baseline: where the path starts: ``"mean"`` (default): 0 in normalized space, for inputs of any shape; for
            images also ``"black"`` (needs ``normalization``), ``"blur"`` and ``"noise"``, see ``make_baseline``.
        normalization: normalization of the images, for ``"black"``.
        points_per_pass: largest number of path points (rows times steps) in one forward pass, which bounds the memory;
            at least one step of the whole batch. None = 8 on a CPU, where more points are slower, else 64.

    Raises:
        ValueError: fewer than one step or point per pass, or a baseline that is unknown or does not fit the input.

    Source: Sundararajan et al., arXiv 1703.01365, through ``captum.attr.IntegratedGradients``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        steps: int = 32,
        baseline: Baseline = "mean",
        normalization: Normalization | None = None,
        points_per_pass: int | None = None,
    ):
        super().__init__(forward_func)
        check_integer("steps", steps, 1)
        check_choice("baseline", baseline, BASELINES)
        check_integer("points_per_pass", 1 if points_per_pass is None else points_per_pass, 1)
        self.steps, self.points_per_pass = steps, points_per_pass
        self.baseline, self.normalization = baseline, normalization

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        method = captum.IntegratedGradients(self.forward_func)
        method.gradient_func = score_gradients
        # Captum splits steps only, never rows: it would ignore a chunk smaller than the batch, with a warning.
        points = self.points_per_pass or (8 if inputs[0].device.type == "cpu" else 64)
        chunk = max(len(inputs[0]), points)
        # Captum makes its own leaf tensors along the path; a graph back to our tensors would only cost memory.
        inputs = tuple(t.detach() for t in inputs)
        attributions = method.attribute(
            inputs,
            baselines=tuple(self._start(t) for t in inputs),
            target=target,
            additional_forward_args=extra or None,
            n_steps=self.steps,
            internal_batch_size=chunk,
        )
        return tuple(a.to(t.dtype) for a, t in zip(attributions, inputs, strict=True))

    def _start(self, tensor: Tensor) -> Tensor | int:
        if self.baseline == "mean":
            return 0
        return make_baseline(tensor, self.baseline, self.normalization)


class GradientSHAP(SafeAttribution):
    """Expected gradients: the mean of (x - b) g(b + u (x - b)) over random baselines b and positions u, signed.

    Baselines are images of the data, or Gaussian noise around zero (the data set's mean for normalized images); u is
    uniform in [0, 1]. This estimates SHAP values; their sum approaches the mean difference between the scores of image
    and baselines.

    Args:
        forward_func: the model, or any function of the inputs.
        samples: number of random draws of b and u, one forward and backward pass each.
        noise: standard deviation of the baselines, in units of the input; with ``baselines`` it is not used.
        baselines: inputs (N, ...) of which one is drawn for every sample, such as images of the training data (expected
            gradients proper); a tuple for several inputs; None = noise.
        seed: seed of the random draws. All images get the same draws, so an image's map does not depend on its batch.

    Raises:
        ValueError: fewer than one sample, a negative noise, or baselines that do not fit the inputs.

    Source: Lundberg and Lee, arXiv 1705.07874; Erion et al., arXiv 1906.10670. Captum's GradientShap draws anew for
    every row, so that its maps depend on the batch; the formula is the same.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        samples: int = 16,
        noise: float = 0.1,
        baselines: Tensors | None = None,
        seed: int = 0,
    ):
        super().__init__(forward_func)
        check_integer("samples", samples, 1)
        check_finite("noise", noise, 0)
        check_seed("seed", seed)
        self.samples, self.noise, self.seed = samples, noise, seed
        self.baselines = (baselines,) if isinstance(baselines, Tensor) else baselines

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "GradientSHAP"

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(self.seed)
        points = tuple(t.detach() for t in inputs)
        totals = tuple(torch.zeros_like(t) for t in points)
        for _ in range(self.samples):
            baselines = self._start(points, generator)
            u = float(torch.rand((), generator=generator))
            between = tuple((b + u * (t - b)).requires_grad_() for t, b in zip(points, baselines, strict=True))
            gradients = score_gradients(self.forward_func, between, target, extra or None)
            for total, t, b, gradient in zip(totals, points, baselines, gradients, strict=True):
                total += (t - b) * gradient / self.samples
        return totals

    def _start(self, inputs: tuple[Tensor, ...], generator: torch.Generator) -> list[Tensor]:
        """Draw one baseline, the same for all rows."""
        if self.baselines is None:
            return [self.noise * torch.randn(t.shape[1:], generator=generator).to(t) for t in inputs]
        shapes = [tuple(t.shape[1:]) for t in inputs]
        fits = [tuple(b.shape[1:]) for b in self.baselines] == shapes and len({len(b) for b in self.baselines}) == 1
        require(
            fits and len(self.baselines[0]) > 0, "baselines", f"hold rows of the shapes {shapes}", self.baselines[0]
        )
        chosen = int(torch.randint(len(self.baselines[0]), (), generator=generator))
        return [b[chosen].to(t) for b, t in zip(self.baselines, inputs, strict=True)]
