"""Class activation maps: what they share, and the pass that serves every gradient CAM of a layer."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_choice, require
from sibx.attribution.cotangents import differentiate
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import SafeAttribution, pick_rows, select_scores
from sibx.models.alignment import Align, find_alignment
from sibx.models.layers import record, resolve_layer, to_grid

Layer = nn.Module | str | None


def run_to_layers(
    model: nn.Module,
    layers: Sequence[nn.Module],
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
    rewrite: Mapping[str, Any] | None = None,
) -> tuple[Any, list[Tensor]]:
    """Return the model's output and the layers' (maps, or tokens), from one forward pass.

    ``rewrite`` is that of ``record``, with the layers' positions as keys: "0", "1", ...
    """
    names = {str(i): layer for i, layer in enumerate(layers)}
    with record(model, names, rewrite, tokens=True) as outputs:
        scores = run_forward(model, inputs, None, extra)
    for name, layer in names.items():
        require(name in outputs, "layer", "run in the model's forward pass", layer)
    return scores, [outputs[name] for name in names]


def draw(
    maps: Tensor,
    model: nn.Module,
    layer: nn.Module,
    align: Align,
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
) -> Tensor:
    """Draw a layer's maps (B, C, h, w) at the first input's size; the other arguments are the model's."""
    others = pick_rows((*inputs[1:], *extra), torch.tensor([0]), len(inputs[0]))
    return find_alignment(model, layer, inputs[0], align, *others).draw(maps, image_size(inputs))


class CAM(SafeAttribution, LayerAttribution):
    """A map made of one layer's activations, or of several layers'; tokens of a transformer are laid out as a grid.

    Args:
        forward_func: the model.
        layer: a module, its dotted name, or None for ``find_cam_layer(model)``; or several of them. Their maps are then
            drawn at the input's size, each divided by its own maximum, and averaged.
        upsample: draw the map at the input's height and width (default), else keep the layer's grid.
        align: where to draw it. ``"receptive_field"`` (default): every unit where it looks, for which the model runs
            once more per layer (``sibx.models._receptive_field``). ``"half_pixel"``: every unit in the middle of its
            share of the image, as other libraries do; in a network of stride 32 with symmetric padding that is 16
            pixels too far to the lower right.

    Attributions are (B, 1, H, W). Subclasses give ``_maps``.

    Raises:
        ValueError: no such layer, its output is neither a feature map (B, C, h, w) nor tokens (B, N, D) that fill a
            grid, or several layers with ``upsample=False``.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
    ):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        check_choice("align", align, get_args(Align))
        SafeAttribution.__init__(self, forward_func)  # type: ignore[call-arg]  # captum's bases are Any
        self.device_ids = None  # as captum's LayerAttribution has it
        names = [layer] if layer is None or isinstance(layer, nn.Module | str) else layer
        self.layers = tuple(resolve_layer(forward_func, name) for name in names)
        require(bool(self.layers), "layer", "name at least one layer", layer)
        require(upsample or len(self.layers) == 1, "upsample", "be True for several layers", upsample)
        self.upsample, self.align = upsample, align

    @property
    def layer(self) -> nn.Module:
        """The layer, the first one of several."""
        return self.layers[0]

    @abstractmethod
    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        """The map (B, 1, h, w) on every layer's grid."""

    def _run(
        self, inputs: tuple[Tensor, ...], extra: tuple[Any, ...], rewrite: Mapping[str, Any] | None = None
    ) -> tuple[Any, list[Tensor]]:
        return run_to_layers(self.forward_func, self.layers, inputs, extra, rewrite)

    def _draw(self, maps: Tensor, layer: nn.Module, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> Tensor:
        return draw(maps, self.forward_func, layer, self.align, inputs, extra)

    def _merge(self, maps: Sequence[Tensor], inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> Tensor:
        """What is returned for the maps of all layers."""
        if not self.upsample:
            return maps[0]
        drawn = [self._draw(m, layer, inputs, extra) for m, layer in zip(maps, self.layers, strict=True)]
        if len(drawn) == 1:
            return drawn[0]
        peaks = [d.amax((2, 3), keepdim=True) for d in drawn]
        scaled = [d / peak.where(peak != 0, 1) for d, peak in zip(drawn, peaks, strict=True)]
        return torch.stack(scaled).mean(0)

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (self._merge(self._maps(inputs, target, extra), inputs, extra),)


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
        align: as for ``CAM``.
        create_graph: keep the map differentiable, for losses on it.

    Subclasses give ``weigh``; errors as ``CAM``.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
        create_graph: bool = False,
    ):
        super().__init__(forward_func, layer, upsample=upsample, align=align)
        self.create_graph = create_graph

    @staticmethod
    @abstractmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Combine activations and gradients (B, C, h, w) into a map (B, 1, h, w), at least 0."""

    def _passes(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[LayerPass]:
        # The inputs require grad, so the layers' outputs do too, even when all parameters are frozen.
        scores, activations = self._run(inputs, extra)
        score = select_scores(scores, target, len(inputs[0])).sum()
        gradients = differentiate(score, activations, create_graph=self.create_graph)
        size = image_size(inputs)
        return [LayerPass(to_grid(a, size), to_grid(g, size)) for a, g in zip(activations, gradients, strict=True)]

    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        return [self.weigh(*p) for p in self._passes(inputs, target, extra)]


class SharedCAMs(GradientCAM):
    """Several gradient CAMs from one forward pass and one backward pass to the layer.

    Args:
        forward_func: the model.
        layer: as for ``CAM``.
        kinds: the CAM classes.
        upsample: as for ``CAM``.
        align: as for ``CAM``.

    ``attribute((images,), target)`` returns one map (B, 1, H, W) per kind.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: Layer | Sequence[Layer],
        kinds: Sequence[type[GradientCAM]],
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
    ):
        super().__init__(forward_func, layer, upsample=upsample, align=align)
        self.kinds = tuple(kinds)

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return super()._empty(inputs) * len(self.kinds)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        passes = self._passes(inputs, target, extra)
        return tuple(self._merge([kind.weigh(*p) for p in passes], inputs, extra) for kind in self.kinds)
