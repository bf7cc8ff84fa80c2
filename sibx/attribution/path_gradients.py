"""Gradients along a path of images: from a blurred image to the image (BlurIG), and in important directions (IDGI)."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_choice, check_finite, check_images, check_integer, require
from sibx.attribution.cotangents import differentiate_inputs
from sibx.attribution.safe import SafeAttribution, select_scores
from sibx.images.baselines import BASELINES, BLUR_SIDE, Baseline, blur, make_baseline
from sibx.images.normalization import Normalization

Points = tuple[Tensor, ...]
SIGMA = 50.0  # deviation of BlurIG's first blur, in pixels at a side of BLUR_SIDE


class _AlongPath(SafeAttribution):
    """A sum over the steps of a path; subclasses say where it goes, and what a step adds."""

    def __init__(self, forward_func: Callable[..., Tensor], *, steps: int):
        super().__init__(forward_func)
        check_integer("steps", steps, 1)
        self.steps = steps

    @abstractmethod
    def _points(self, inputs: Points) -> Iterator[Points]:
        """Yield ``steps + 1`` points, from the start to the inputs."""

    def _run(
        self, points: Points, target: Any, extra: tuple[Any, ...], *, gradients: bool = True
    ) -> tuple[Tensor, Points]:
        """Return the scores (B,) and their gradients at the points."""
        leaves = tuple(p.detach().requires_grad_(gradients) for p in points)
        with torch.set_grad_enabled(gradients):
            outputs = run_forward(self.forward_func, leaves, None, extra or None)
            scores = select_scores(outputs, target, len(leaves[0])).reshape(-1)
        return scores.detach(), differentiate_inputs(scores.sum(), leaves) if gradients else ()


def blurred(images: Tensor, sigma: float = SIGMA) -> Tensor:
    """Return images (B, C, H, W) blurred by a deviation in pixels at a side of 224, in proportion otherwise."""
    return blur(images, sigma / BLUR_SIDE * max(images.shape[2:]))


class BlurIG(_AlongPath):
    """Integrated Gradients along blur: the gradient times the step, from a blurred image to the image; signed.

    The path removes a Gaussian blur bit by bit, so that details come in after the outlines and nothing black or gray is
    ever laid over the image. A step from x_k to x_(k+1) adds ``(x_(k+1) - x_k) (g_k + g_(k+1)) / 2``. The attributions
    of an image sum to the difference between the scores of the image and the blurred one, up to the error of the rule.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        steps: number of steps, one forward and backward pass each, and one more.
        sigma: deviation of the blur at the start, in pixels at a side of 224, in proportion otherwise. It falls with
            the square of what is left of the path, as the blur loses detail ever slower.

    Attributions have the shape of the images, in units of the score.

    Raises:
        ValueError: fewer than one step, a sigma below 0, or inputs that are not images (B, C, H, W).

    Source: Xu et al., arXiv 2004.03383 (sigma 50 at 224 px).
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, steps: int = 32, sigma: float = SIGMA):
        super().__init__(forward_func, steps=steps)
        check_finite("sigma", sigma, 0)
        self.sigma = sigma

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "BlurIG"

    def _points(self, inputs: Points) -> Iterator[Points]:
        for images in inputs:
            check_images(images, "inputs")
        for step in range(self.steps + 1):
            yield tuple(blurred(t, self.sigma * (1 - step / self.steps) ** 2) for t in inputs)

    def _explain(self, inputs: Points, target: Any, extra: tuple[Any, ...]) -> Points:
        totals = tuple(torch.zeros_like(t, requires_grad=False) for t in inputs)
        before: tuple[Points, Points] | None = None
        for points in self._points(tuple(t.detach() for t in inputs)):
            _, gradients = self._run(points, target, extra)
            if before is not None:
                for total, a, b, g, h in zip(totals, points, before[0], gradients, before[1], strict=True):
                    total += (a - b) * (g + h) / 2
            before = points, gradients
        return totals


class IDGI(_AlongPath):
    """Integrated Gradients in important directions: what every step changes in the score, shared out by g^2; signed.

    A step from x_k to x_(k+1) adds ``(s(x_(k+1)) - s(x_k)) g_k^2 / sum g_k^2``: only the direction of the gradient
    changes the score, and the rest of a step, which Integrated Gradients multiplies in, is noise. The attributions of
    an image sum to the difference between the scores of image and baseline, exactly; nothing is added where g is 0.

    Args:
        forward_func: the model, or any function of the inputs.
        steps: number of steps, one forward and backward pass each, and one forward pass more.
        baseline: where the path starts: ``"mean"`` (default): 0 in normalized space, for inputs of any shape; for
            images also ``"black"`` (needs ``normalization``), ``"blur"`` and ``"noise"``, see ``make_baseline``.
        normalization: normalization of the images, for ``"black"``.

    Attributions have the shape of the inputs, in units of the score.

    Raises:
        ValueError: fewer than one step, or a baseline that is unknown or does not fit the input.

    Source: Yang et al., arXiv 2303.14242, on the straight path.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        steps: int = 32,
        baseline: Baseline = "mean",
        normalization: Normalization | None = None,
    ):
        super().__init__(forward_func, steps=steps)
        check_choice("baseline", baseline, BASELINES)
        self.baseline, self.normalization = baseline, normalization

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "IDGI"

    def _points(self, inputs: Points) -> Iterator[Points]:
        plain = self.baseline == "mean"
        starts = [torch.zeros_like(t) if plain else make_baseline(t, self.baseline, self.normalization) for t in inputs]
        for step in range(self.steps + 1):
            yield tuple(s + (t - s) * (step / self.steps) for s, t in zip(starts, inputs, strict=True))

    def _explain(self, inputs: Points, target: Any, extra: tuple[Any, ...]) -> Points:
        totals = tuple(torch.zeros_like(t, requires_grad=False) for t in inputs)
        before: tuple[Tensor, Points] | None = None
        for number, points in enumerate(self._points(tuple(t.detach() for t in inputs))):
            scores, gradients = self._run(points, target, extra, gradients=number < self.steps)
            if before is not None:
                self._share_out(totals, scores - before[0], before[1])
            before = scores, gradients
        return totals

    @staticmethod
    def _share_out(totals: Points, change: Tensor, gradients: Points) -> None:
        """Add a change (B,) of the scores to the totals, in proportion to the squared gradients of all inputs."""
        # A gradient as small as 1e-20 has no square in float32; only proportions matter.
        peak = torch.stack([g.abs().flatten(1).amax(1) for g in gradients]).amax(0)
        scaled = [g / _column(peak.where(peak > 0, 1), g) for g in gradients]
        whole = torch.stack([g.square().flatten(1).sum(1) for g in scaled]).sum(0)
        factor = change / whole.where(whole > 0, 1)
        for total, g in zip(totals, scaled, strict=True):
            total += _column(factor, g) * g.square()


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Lay values (B,) along the first axis of a tensor."""
    require(len(values) == len(like), "inputs", f"have {len(values)} rows each", like)
    return values.view(-1, *[1] * (like.ndim - 1))
