"""Methods that rewrite the backward pass of modules: thin adapters over Captum that refuse where it would mislead."""

import warnings
from typing import Any

from captum import attr as captum
from torch import Tensor, nn

from sibx._checks import require
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.safe import SafeAttribution


class GuidedBackprop(SafeAttribution):
    """The gradient with negative gradients cut off at every ReLU on the way back, signed.

    Only ``torch.nn.ReLU`` modules are rewritten. For a network without them (SiLU, GELU, ReLU6, functional ReLU) Captum
    silently returns the plain gradient; here that is an error.

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
        require(
            has_relu, "forward_func", "hold torch.nn.ReLU modules, which alone are guided", type(forward_func).__name__
        )
        super().__init__(forward_func)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")
            return tuple(captum.GuidedBackprop(self.forward_func).attribute(inputs, target, extra or None))


class GuidedGradCAM(SafeAttribution):
    """Guided Backprop times Grad-CAM, drawn at the input's size: signed, zero where one of the two is zero.

    Args:
        forward_func: the model, a module with ``torch.nn.ReLU`` modules in it.
        layer: layer of Grad-CAM, a module or its dotted name; None = ``find_cam_layer(model)``.

    Raises:
        ValueError: the model is not a module or has no ``torch.nn.ReLU``, or the layer does not exist or outputs no
            map.

    Source: Selvaraju et al., arXiv 1610.02391, section 3.2.
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str | None = None):
        super().__init__(forward_func)
        self.guided, self.cam = GuidedBackprop(forward_func), GradCAM(forward_func, layer)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        guided = self.guided._explain(inputs, target, extra)
        (cam,) = self.cam._explain(inputs, target, extra)
        return tuple(g * cam if g.shape[2:] == cam.shape[2:] else g for g in guided)


class DeepLift(SafeAttribution):
    """DeepLIFT with the rescale rule and a zero baseline: contributions that sum to the change of the score, signed.

    Zero is the data set's mean for images normalized by it. A module that runs twice in one forward pass (as ResNet's
    shared ReLUs do) breaks Captum's hooks, and Captum raises an error. Activations without a rescale rule (SiLU, GELU)
    are treated by their plain gradient; the contributions then do not sum to the change of the score.

    Args:
        forward_func: the model, a ``torch.nn.Module``.

    Raises:
        ValueError: the model is not a module.

    Source: Shrikumar et al., arXiv 1704.02685, through ``captum.attr.DeepLift``.
    """

    def __init__(self, forward_func: nn.Module):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        super().__init__(forward_func)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks and attributes")
            method = captum.DeepLift(self.forward_func)
            return tuple(method.attribute(inputs, target=target, additional_forward_args=extra or None))
