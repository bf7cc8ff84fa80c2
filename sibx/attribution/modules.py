"""Methods that rewrite the backward pass of modules: thin adapters over Captum that refuse where it would mislead."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from captum import attr as captum
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import require
from sibx.attribution._activations import activations_outside
from sibx.attribution.cotangents import differentiate_inputs
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradients import score_gradients
from sibx.attribution.method import PartlyFits
from sibx.attribution.safe import SafeAttribution, select_scores
from sibx.models.alignment import Align
from sibx.models.scored import unwrap
from sibx.models.trace import run_traced

TOLERANCE = 0.01  # share of the change of the score that DeepLIFT's sum may miss before it is called incomplete
NOISE = 100  # rounding errors of the dtype, of all contributions together, that are no sign of a missing rule


class HookedAttribution(SafeAttribution):
    """A method of Captum that hooks modules, whose failures come from inside the hooks."""

    @contextmanager
    def _reasons(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Iterator[None]:
        """Run the block; where it fails, the plain gradient says why if it can."""
        try:
            yield
        except RuntimeError:
            score_gradients(self.forward_func, inputs, target, extra or None)
            raise


class GuidedBackprop(HookedAttribution):
    """The gradient with negative gradients cut off at every ReLU on the way back, signed.

    Only ``torch.nn.ReLU`` modules are rewritten. For a network without them (SiLU, GELU, ReLU6, functional ReLU) Captum
    silently returns the plain gradient; here that is an error. Where a network has them and other activations too, a
    warning names those that were not guided.

    Args:
        forward_func: the model, a module with ``torch.nn.ReLU`` modules in it.

    Raises:
        ValueError: the model is not a module, or has no ``torch.nn.ReLU``.

    Source: Springenberg et al., arXiv 1412.6806, through ``captum.attr.GuidedBackprop``. Insensitive to the weights of
    higher layers (Adebayo et al., arXiv 1810.03292): a picture of the image's edges more than of the decision.
    """

    def __init__(self, forward_func: nn.Module):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        has_relu = any(isinstance(m, nn.ReLU) for m in forward_func.modules())
        name = type(unwrap(forward_func)).__name__
        require(has_relu, "forward_func", "hold torch.nn.ReLU modules, which alone are guided", name)
        super().__init__(forward_func)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        method = captum.GuidedBackprop(self.forward_func)
        method.gradient_func = score_gradients
        with warnings.catch_warnings(), activations_outside(self.forward_func, nn.ReLU) as unguided:
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")
            with self._reasons(inputs, target, extra):
                guided = tuple(method.attribute(inputs, target, extra or None))
        if unguided:
            message = f"Guided Backprop passes through these activations unguided: {', '.join(sorted(unguided))}."
            warnings.warn(f"{message} Only torch.nn.ReLU modules are guided.", PartlyFits, stacklevel=2)
        return guided


class GuidedGradCAM(SafeAttribution):
    """Guided Backprop times Grad-CAM, drawn at the input's size: signed, zero where one of the two is zero.

    Args:
        forward_func: the model, a module with ``torch.nn.ReLU`` modules in it.
        layer: layer of Grad-CAM, a module or its dotted name; None = ``find_cam_layer``.

    Raises:
        ValueError: the model is not a module or has no ``torch.nn.ReLU``, or the layer does not exist or outputs no
            map.

    Source: Selvaraju et al., arXiv 1610.02391, section 3.2.
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str | None = None):
        super().__init__(forward_func)
        self.guided, self.cam = GuidedBackprop(forward_func), GradCAM(forward_func, layer)

    @property
    def align(self) -> Align:
        """Where Grad-CAM draws the units of the layer."""
        return self.cam.align

    @align.setter
    def align(self, align: Align) -> None:
        self.cam.align = align

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        guided = self.guided._explain(inputs, target, extra)
        (cam,) = self.cam._explain(inputs, target, extra)
        return tuple(g * cam if g.shape[2:] == cam.shape[2:] else g for g in guided)


class DeepLift(HookedAttribution):
    """DeepLIFT with the rescale rule and a zero baseline: contributions that sum to the change of the score, signed.

    Zero is the data set's mean for images normalized by it. A module that runs twice in one forward pass (as ResNet's
    shared ReLUs do) breaks Captum's hooks, and is an error. Activations that are functions (``F.relu``), or
    that have no rescale rule (SiLU, GELU), are treated by their plain gradient. The sum is compared with the change of
    the score: where it misses more than 1 % a warning says so.

    Args:
        forward_func: the model, a ``torch.nn.Module``.

    Raises:
        ValueError: the model is not a module, or has an activation that runs several times in a forward pass.

    Source: Shrikumar et al., arXiv 1704.02685, through ``captum.attr.DeepLift``.
    """

    def __init__(self, forward_func: nn.Module):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        super().__init__(forward_func)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        before, after = (
            self._scores(points, target, extra) for points in (tuple(torch.zeros_like(t) for t in inputs), inputs)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks and attributes")
            method = captum.DeepLift(self.forward_func)
            method.gradient_func = lambda scores, leaves: differentiate_inputs(scores().sum(), leaves)
            with self._runs_once(inputs, extra), self._reasons(inputs, target, extra):
                found = tuple(method.attribute(inputs, target=target, additional_forward_args=extra or None))
        _compare(found, before, after)
        return found

    @contextmanager
    def _runs_once(self, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> Iterator[None]:
        """Run the block; where it fails, an activation or a pooling that runs several times says why."""
        try:
            yield
        except RuntimeError as error:
            runs = run_traced(self.forward_func, *inputs, *extra).runs
            bare = {name: m for name, m in self.forward_func.named_modules() if not [*m.children(), *m.parameters()]}
            found = {name: runs[module] for name, module in bare.items() if runs[module] > 1}
            if not found:
                raise
            rule = "run every activation and pooling once in a forward pass"
            raise ValueError(f"`forward_func` must {rule}, but got runs of {found}.") from error

    @torch.no_grad()
    def _scores(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        outputs = run_forward(self.forward_func, inputs, None, extra or None)
        return select_scores(outputs, target, len(inputs[0])).reshape(-1)


def _compare(attributions: tuple[Tensor, ...], before: Tensor, after: Tensor) -> None:
    """Warn of contributions whose sum is not the change of the score."""
    parts = torch.cat([a.detach().flatten(1) for a in attributions], 1)
    total, size, change = parts.sum(1), parts.abs().sum(1), after - before
    noise = NOISE * torch.finfo(parts.dtype).eps * (size + before.abs() + after.abs())
    missed = (total - change).abs() > TOLERANCE * change.abs() + noise
    if missed.any():
        row = int(missed.nonzero()[0, 0])
        warnings.warn(
            f"DeepLIFT's contributions sum to {float(total[row]):.3g} for a change of the score of "
            f"{float(change[row]):.3g}: its rules did not reach every layer, or do not fit it. They belong to modules "
            "(torch.nn.ReLU, not F.relu); ReLU6, SiLU and GELU have none.",
            PartlyFits,
            stacklevel=3,
        )
