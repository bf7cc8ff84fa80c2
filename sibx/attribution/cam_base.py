"""Class activation maps: what they share, and the pass that serves every gradient CAM of a layer."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from captum._utils.common import _run_forward
from captum.attr import LayerAttribution
from torch import Tensor, nn

from sibx._checks import require
from sibx.attribution.base import SafeAttribution, select_scores
from sibx.attribution.vjp import differentiate
from sibx.models.layers import record, resolve_layer, to_grid


class CAM(SafeAttribution, LayerAttribution):
    """A map made of one layer's activations; tokens of a transformer are laid out as a grid.

    Args:
        forward_func: the model.
        layer: a module, its dotted name, or None for ``find_cam_layer(model)``.
        upsample: resize bilinearly to the input's height and width (default), else keep the layer's grid.

    Attributions are (B, 1, H, W). Subclasses give ``_map``.

    Raises:
        ValueError: no such layer, or its output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid.
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str | None = None, *, upsample: bool = True):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        SafeAttribution.__init__(self, forward_func)  # type: ignore[call-arg]  # captum's bases are Any
        self.device_ids = None  # as captum's LayerAttribution has it
        self.layer = resolve_layer(forward_func, layer)
        self.upsample = upsample

    @abstractmethod
    def _map(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        """The map (B, 1, h, w) on the layer's grid."""

    def _run(
        self, inputs: tuple[Tensor, ...], extra: tuple[Any, ...], rewrite: Mapping[str, Any] | None = None
    ) -> tuple[Any, Tensor]:
        """The model's output and the layer's (a map, or tokens), from one forward pass."""
        with record(self.forward_func, {"layer": self.layer}, rewrite, tokens=True) as outputs:
            scores = _run_forward(self.forward_func, inputs, None, extra)
        require("layer" in outputs, "layer", "run in the model's forward pass", self.layer)
        return scores, outputs["layer"]

    def _draw(self, maps: Tensor, images: Tensor) -> Tensor:
        return F.interpolate(maps, images.shape[2:], mode="bilinear") if self.upsample else maps

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (self._draw(self._map(inputs, target, extra), inputs[0]),)


class LayerPass(NamedTuple):
    """Activations a and gradients g = dz_t / da of a layer, both (B, C, h, w)."""

    activations: Tensor
    gradients: Tensor


class GradientCAM(CAM):
    """A CAM that needs the activations and the target's gradient there, and no more.

    Args:
        forward_func: as for ``CAM``.
        layer: as for ``CAM``.
        upsample: as for ``CAM``.
        create_graph: keep the map differentiable, for losses on it.

    Subclasses give ``weigh``; errors as ``CAM``.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: nn.Module | str | None = None,
        *,
        upsample: bool = True,
        create_graph: bool = False,
    ):
        super().__init__(forward_func, layer, upsample=upsample)
        self.create_graph = create_graph

    @staticmethod
    @abstractmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Combine activations and gradients (B, C, h, w) into a map (B, 1, h, w), at least 0."""

    def _pass(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> LayerPass:
        # The inputs require grad, so the layer's output does too, even when all parameters are frozen.
        scores, activations = self._run(inputs, extra)
        score = select_scores(scores, target, len(inputs[0])).sum()
        (gradients,) = differentiate(score, [activations], create_graph=self.create_graph)
        size = (inputs[0].shape[2], inputs[0].shape[3])
        return LayerPass(to_grid(activations, size), to_grid(gradients, size))

    def _map(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        return self.weigh(*self._pass(inputs, target, extra))


class SharedCAMs(GradientCAM):
    """Several gradient CAMs of one layer from one forward pass and one backward pass to the layer.

    Args:
        forward_func: the model.
        layer: as for ``CAM``.
        kinds: the CAM classes.
        upsample: as for ``CAM``.

    ``attribute((images,), target)`` returns one map (B, 1, H, W) per kind.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: nn.Module | str | None,
        kinds: Sequence[type[GradientCAM]],
        *,
        upsample: bool = True,
    ):
        super().__init__(forward_func, layer, upsample=upsample)
        self.kinds = tuple(kinds)

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return super()._empty(inputs) * len(self.kinds)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        shared = self._pass(inputs, target, extra)
        return tuple(self._draw(kind.weigh(*shared), inputs[0]) for kind in self.kinds)
