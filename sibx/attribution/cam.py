"""Class activation maps: what they share, and the one pass that all gradient CAMs of a layer share."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_choice, require
from sibx.attribution.cotangents import differentiate
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import SafeAttribution, pick_rows, select_scores
from sibx.models.alignment import Align, find_alignment
from sibx.models.finding import resolve_layer, stage_of
from sibx.models.layers import name_of, record
from sibx.models.layout import to_grid

Layer = nn.Module | str | None
Merge = Literal["mean", "product"]


def run_to_layers(
    model: Callable[..., Any],
    layers: Sequence[nn.Module],
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
    rewrite: Mapping[str, Any] | None = None,
) -> tuple[Any, list[Tensor]]:
    """Return the model's output and the layers' outputs (maps, or tokens), from one forward pass.

    ``rewrite`` maps a layer's position ("0", "1", ...) to a function of its output; the rest of the model sees the
    result.
    """
    image_size(inputs)  # before the layers' outputs, whose errors would not speak of the inputs
    names = {str(i): layer for i, layer in enumerate(layers)}
    seen = model if isinstance(model, nn.Module) else _Function(model)
    with record(seen, names, rewrite, tokens=True) as outputs:
        scores = run_forward(seen, inputs, None, extra)
    for name, layer in names.items():
        called = name_of(seen, layer) or type(layer).__name__
        require(name in outputs, "layer", "run in the model's forward pass", called)
    return scores, [outputs[name] for name in names]


class _Function(nn.Module):
    """A plain function as a module, so that its passes can be seen."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        """Call the function."""
        return self.function(*inputs)


def draw(
    maps: Tensor,
    model: Callable[..., Any],
    layer: nn.Module,
    align: Align,
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
) -> Tensor:
    """Draw a layer's maps (B, C, h, w) at the size of the first input; ``inputs`` and ``extra`` went into the model."""
    others = pick_rows((*inputs[1:], *extra), torch.tensor([0]), inputs[0].shape[0])
    return find_alignment(model, layer, inputs[0], align, *others).draw(maps, image_size(inputs))


class CAM(SafeAttribution, LayerAttribution):
    """A map made of the activations of one layer or several; tokens of a transformer are laid out as a grid.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module, its dotted name, ``"stage:-2"``, ``"stage:-3"``, ... for the end of the stage before the last
            one, and so on (``find_cam_layers``), or None for ``find_cam_layer``, both looked up for the inputs at hand;
            or several of them, whose maps are then merged.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        merge: how the maps of several layers become one, each drawn at the input's size and divided by its maximum:
            ``"mean"`` (default), or ``"product"``: what all layers show (RefineCAM, arXiv 2605.14641).
        align: where each unit is drawn. ``"receptive_field"`` (default): where it looks, for which the model runs once
            more per layer (see ``sibx.models.receptive_field``). ``"half_pixel"``: in the middle of its share of the
            image, as other libraries do; in a network of stride 32 with symmetric padding that is 16 pixels too far
            to the lower right.

    Attributions are (B, 1, H, W). Subclasses implement ``_maps``.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
        merge: Merge = "mean",
    ):
        check_choice("align", align, get_args(Align))
        check_choice("merge", merge, get_args(Merge))
        SafeAttribution.__init__(self, forward_func)  # type: ignore[call-arg]  # captum's bases are Any
        self.device_ids = None  # as captum's LayerAttribution has it
        names = [layer] if layer is None or isinstance(layer, nn.Module | str) else layer
        later = [isinstance(forward_func, nn.Module) and stage_of(name) is not None for name in names]
        self._asked = tuple(
            n if is_later else resolve_layer(forward_func, n) for n, is_later in zip(names, later, strict=True)
        )
        require(bool(self._asked), "layer", "name at least one layer", layer)
        require(upsample or len(self._asked) == 1, "upsample", "be True for several layers", upsample)
        self.upsample, self.align, self.merge = upsample, align, merge

    @property
    def layer(self) -> nn.Module:
        """The layer, of several layers the first; one that is looked up is that for images of the model's own size."""
        return resolve_layer(self.forward_func, self._asked[0])

    def _layers(self, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> list[nn.Module]:
        """The layers for these inputs."""
        image_size(inputs)  # before the model runs, whose errors would not speak of the inputs
        return [resolve_layer(self.forward_func, layer, *inputs, *extra) for layer in self._asked]

    @abstractmethod
    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        """One map (B, 1, h, w) per layer, on that layer's grid."""

    def _run(self, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> tuple[Any, list[Tensor]]:
        return run_to_layers(self.forward_func, self._layers(inputs, extra), inputs, extra)

    def _draw(self, maps: Tensor, layer: nn.Module, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> Tensor:
        return draw(maps, self.forward_func, layer, self.align, inputs, extra)

    def _merge(self, maps: Sequence[Tensor], inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> Tensor:
        """The attribution made of the maps of all layers."""
        if not self.upsample:
            return maps[0]
        layers = self._layers(inputs, extra)
        drawn = [self._draw(m, layer, inputs, extra) for m, layer in zip(maps, layers, strict=True)]
        if len(drawn) == 1:
            return drawn[0]
        peaks = [d.amax((2, 3), keepdim=True) for d in drawn]
        scaled = [d / peak.where(peak != 0, 1) for d, peak in zip(drawn, peaks, strict=True)]
        return torch.stack(scaled).mean(0) if self.merge == "mean" else torch.stack(scaled).prod(0)

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (self._merge(self._maps(inputs, target, extra), inputs, extra),)


class LayerPass(NamedTuple):
    """Activations a of a layer and gradients g = dz_t / da of the target's score, both (B, C, h, w)."""

    activations: Tensor
    gradients: Tensor


class GradientCAM(CAM):
    """A CAM computed from a layer's activations and from the gradient of the target's score there, nothing else.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Subclasses implement ``weigh``.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
        merge: Merge = "mean",
        create_graph: bool = False,
    ):
        super().__init__(forward_func, layer, upsample=upsample, align=align, merge=merge)
        self.create_graph = create_graph

    @staticmethod
    @abstractmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Combine activations and gradients (B, C, h, w) into a map (B, 1, h, w), at least 0."""

    def _passes(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[LayerPass]:
        # The inputs require grad, so the layers' outputs do too, even when all parameters are frozen.
        scores, activations = self._run(inputs, extra)
        score = select_scores(scores, target, inputs[0].shape[0]).sum()
        gradients = differentiate(score, activations, create_graph=self.create_graph)
        size = image_size(inputs)
        return [LayerPass(to_grid(a, size), to_grid(g, size)) for a, g in zip(activations, gradients, strict=True)]

    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        return [self.weigh(*p) for p in self._passes(inputs, target, extra)]


class SharedCAMs(GradientCAM):
    """Several gradient CAMs from one forward pass and one backward pass to the layer.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are averaged; None = ``find_cam_layer``.
        kinds: classes of the CAMs to compute.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.

    ``attribute((images,), target)`` returns one map (B, 1, H, W) per class in ``kinds``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
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
