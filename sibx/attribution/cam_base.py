"""One captured forward and one backward to the layer: what every gradient CAM is made of."""

from abc import abstractmethod
from typing import Any

import torch.nn.functional as F
from captum._utils.common import _run_forward
from captum.attr import LayerAttribution
from torch import Tensor, nn

from sibx._checks import require
from sibx.attribution.base import SafeAttribution, select_scores
from sibx.attribution.vjp import differentiate
from sibx.models.layers import record, resolve_layer


class GradientCAM(SafeAttribution, LayerAttribution):
    """A class activation map built from a layer's activations and the target's gradient there.

    Args:
        forward_func: the model.
        layer: a module, its dotted name, or None for ``find_cam_layer(model)``.
        upsample: resize bilinearly to the input's height and width (default), else keep the layer's grid.

    Attributions are (B, 1, H, W). Subclasses give ``_weigh``.

    Raises:
        ValueError: no such layer, or its output is not a feature map (B, C, h, w).
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str | None = None, *, upsample: bool = True):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        SafeAttribution.__init__(self, forward_func)  # type: ignore[call-arg]  # captum's bases are Any
        self.device_ids = None  # as captum's LayerAttribution has it
        self.layer = resolve_layer(forward_func, layer)
        self.upsample = upsample

    @abstractmethod
    def _weigh(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Combine activations and gradients (B, C, h, w) into a map (B, 1, h, w)."""

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        # The inputs require grad, so the layer's output does too, even when all parameters are frozen.
        with record(self.forward_func, {"layer": self.layer}) as outputs:
            scores = _run_forward(self.forward_func, inputs, None, extra)
        require("layer" in outputs, "layer", "run in the model's forward pass", self.layer)
        activations = outputs["layer"]
        (gradients,) = differentiate(select_scores(scores, target, len(inputs[0])).sum(), [activations])
        maps = self._weigh(activations.detach(), gradients)
        return (F.interpolate(maps, inputs[0].shape[2:], mode="bilinear") if self.upsample else maps,)
