"""Several methods over the same images; the gradient CAMs among them share their passes."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from sibx._outputs import Output
from sibx.attribution.cam import GradientCAM, SharedCAMs
from sibx.attribution.method import Method, MethodSpec
from sibx.models.classes import scored_by_class
from sibx.models.layers import resolve_layer
from sibx.models.scored import unwrap


class Explainers:
    """Methods built once, for any number of batches.

    Args:
        model: the model, images -> logits (B, K).
        specs: the methods to build, with different names.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer(model)``.
        output: what the logits are, see ``sibx.models.Output``; targets are classes, 0 and 1 for a single logit.

    Attributes:
        methods: dict from a method's name to the method, each usable by itself.
    """

    def __init__(
        self,
        model: Any,
        specs: Sequence[MethodSpec],
        layer: nn.Module | str | None = None,
        output: Output = "auto",
    ):
        self._layer_name: str | None = None
        if isinstance(model, nn.Module) and any(s.needs_layer for s in specs):
            layer = resolve_layer(model, layer)  # once for all
            self._layer_name = next((name for name, module in unwrap(model).named_modules() if module is layer), None)
        self.specs, self.output = tuple(specs), output
        scored = scored_by_class(model, output)
        self.methods: dict[str, Method] = {s.name: s.build(scored, layer) for s in specs}
        self._kinds = {s.name: s.build for s in specs if isinstance(s.build, type) and issubclass(s.build, GradientCAM)}
        kinds = list(self._kinds.values())
        self._cams = SharedCAMs(scored, layer, kinds) if kinds else None

    def rebuild(self, spec: MethodSpec, model: nn.Module) -> Method:
        """Build a method again for a copy of the model, at the same layer."""
        return spec.build(scored_by_class(model, self.output), self._layer_name)

    def explain(self, images: Tensor, target: Any) -> Iterator[tuple[MethodSpec, Tensor]]:
        """Yield every method with its attributions, in order; the first gradient CAM computes all of them."""
        cams: dict[str, Tensor] = {}
        for spec in self.specs:
            if self._cams is None or spec.name not in self._kinds:
                yield spec, attribute(spec, self.methods[spec.name], images, target)
            else:
                cams = cams or dict(zip(self._kinds, self._cams.attribute((images,), target), strict=True))
                yield spec, cams[spec.name]


def attribute(spec: MethodSpec, method: Method, images: Tensor, target: Any) -> Tensor:
    """Return the method's attributions; the target is passed only to a method that uses it."""
    options = {"target": target} if spec.uses_target else {}
    return method.attribute(images, **options)
