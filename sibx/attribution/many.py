"""Several methods over the same images; gradient CAMs share their passes, and so do attention methods."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, get_args

from torch import Tensor, nn

from sibx._checks import check_choice, check_images
from sibx._outputs import Output
from sibx.attribution.attention_maps import AttentionMaps, AttentionMethod
from sibx.attribution.cam import GradientCAM, SharedCAMs
from sibx.attribution.method import Method, MethodSpec
from sibx.attribution.own_methods import check_maps
from sibx.models.alignment import Align
from sibx.models.classes import scored_by_class
from sibx.models.failures import say_why
from sibx.models.finding import name_layer, resolve_layer, stage_of
from sibx.models.layers import name_of

M = TypeVar("M")


class Explainers:
    """Methods built once, for any number of batches.

    Args:
        model: the model, images -> logits (B, K).
        specs: the methods to build, with different names.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are, see ``sibx.models.Output``; targets are classes, 0 and 1 for a single logit.
        align: where CAMs draw the units of the layer (``sibx.models.Align``); None = as the methods are built.

    Attributes:
        methods: dict from a method's name to the method, each usable by itself.
    """

    def __init__(
        self,
        model: Any,
        specs: Sequence[MethodSpec],
        layer: nn.Module | str | None = None,
        output: Output = "auto",
        align: Align | None = None,
    ):
        if align is not None:
            check_choice("align", align, get_args(Align))
        self.specs, self.output, self.align, self._model = tuple(specs), output, align, model
        self._needs_layer = isinstance(model, nn.Module) and any(s.needs_layer for s in specs)
        self._layer = layer if stage_of(layer) or not self._needs_layer else resolve_layer(model, layer)
        self._name = name_of(model, self._layer) if isinstance(self._layer, nn.Module) and self._needs_layer else None
        self.methods: dict[str, Method] = {s.name: self._build(s, model, self._layer) for s in specs}
        self._shared = {name: group for group in self._groups() for name in group.names}

    def _groups(self) -> Iterator["_Group"]:
        """Yield the methods that share their passes."""
        model = scored_by_class(self._model, self.output)
        cams = {s.name: s.build for s in self.specs if isinstance(s.build, type) and issubclass(s.build, GradientCAM)}
        if cams:
            yield _Group(tuple(cams), self._aligned(SharedCAMs(model, self._layer, list(cams.values()))))
        methods = {name: m for name, m in self.methods.items() if isinstance(m, AttentionMethod)}
        plain = {name: type(m) for name, m in methods.items() if m.upsample and not m.create_graph}
        if plain:
            yield _Group(tuple(plain), AttentionMaps(model, list(plain.values())))

    def _build(self, spec: MethodSpec, model: Any, layer: nn.Module | str | None) -> Method:
        return self._aligned(spec.build(scored_by_class(model, self.output), layer))

    def _aligned(self, method: M) -> M:
        if self.align is not None and hasattr(method, "align"):
            method.align = self.align
        return method

    def rebuild(self, spec: MethodSpec, model: nn.Module) -> Method:
        """Build a method again for a copy of the model, at the layer of the images that were explained last."""
        return self._build(spec, model, self._name)

    def explain(self, images: Tensor, target: Any) -> Iterator[tuple[MethodSpec, Tensor]]:
        """Yield every method with its attributions, in order; the first of a group computes those of all."""
        if self._needs_layer and not isinstance(self._layer, nn.Module) and len(images):
            check_images(images)
            with say_why(self._model, images):
                self._name = name_layer(self._model, self._layer, images)
        computed: dict[str, Tensor] = {}
        for spec in self.specs:
            group = self._shared.get(spec.name)
            if group is None:
                yield spec, attribute(spec, self.methods[spec.name], images, target)
                continue
            if spec.name not in computed:
                computed |= group.explain(images, target)
            yield spec, computed[spec.name]


class _Group(NamedTuple):
    """Methods that share their passes."""

    names: tuple[str, ...]
    method: SharedCAMs | AttentionMaps

    def explain(self, images: Tensor, target: Any) -> dict[str, Tensor]:
        """Return the attributions of every method."""
        return dict(zip(self.names, self.method.attribute((images,), target), strict=True))


def attribute(spec: MethodSpec, method: Method, images: Tensor, target: Any) -> Tensor:
    """Return the method's attributions; the target is passed only to a method that uses it."""
    options = {"target": target} if spec.uses_target else {}
    found: Tensor = method.attribute(images, **options)
    return check_maps(spec, found, images) if spec.own else found
