"""What a method is: an object with Captum's ``attribute``, and its line in the METHODS table."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from sibx.attribution.heatmaps import Reduce


class Method(Protocol):
    """What a MethodSpec builds: any object with Captum's ``attribute``."""

    def attribute(self, inputs: Any, target: Any = None, **options: Any) -> Any:
        """Return attributions for the inputs."""


class PartlyFits(UserWarning):
    """A method warns that it reaches only a part of the model: its maps are those of another method in the rest."""


Kind = Literal["gradient", "cam", "attention", "perturbation", "control"]


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One line of the METHODS table.

    Attributes:
        name: key in the table.
        title: name shown in tables and figures.
        build: function ``(model, layer) -> Method``; methods without a layer ignore the second argument.
        reference: publication that the method comes from.
        kind: what it looks at: ``gradient`` at the input, ``cam`` at a layer's activations, ``attention`` at attention
            matrices, ``perturbation`` at changed images, ``control`` never at the model; None = not stated.
        needs_layer: whether the layer matters; such a method needs a module, too.
        needs_module: whether the model has to be a ``torch.nn.Module``; others take any function images -> logits.
        needs_fit: whether what it builds has to see images of the data first: ``build(...).fit(images)``, which returns
            the method. ``evaluate`` and galleries do so with images of their data set.
        uses_target: whether it explains a given class; if not, it is called without a target.
        signed: True: the heatmap is the positive part of the channel sum; False: the L2 norm over channels.
        rebuilds: whether ``build`` gives the method for any model; False: it explains one model only.
        baseline: images -> images (B, C, H, W), of which it promises that their score and the sum of the attributions
            add up to the score of the images (``torch.zeros_like`` for a path from 0), as ``completeness`` checks;
            None = it promises no such thing.
        own: whether ``to_method`` made it of something else than a spec, so that its maps are checked.

    Example:
        A method of your own; ``explain``, ``evaluate``, studies and the command line (``module:name``) take it.

        >>> class Flat:
        ...     def attribute(self, inputs, target=None):
        ...         return torch.ones_like(inputs)
        >>> flat = MethodSpec("flat", "Flat map", lambda model, layer: Flat(), "mine", uses_target=False)
        >>> explain(build_model("tiny_cnn", num_classes=5), torch.rand(2, 3, 32, 32), flat).shape
        torch.Size([2, 1, 32, 32])
    """

    name: str
    title: str
    build: Callable[[Any, nn.Module | str | None], Method]
    reference: str
    kind: Kind | None = field(default=None, kw_only=True)
    needs_layer: bool = field(default=False, kw_only=True)
    needs_module: bool = field(default=False, kw_only=True)
    needs_fit: bool = field(default=False, kw_only=True)
    uses_target: bool = field(default=True, kw_only=True)
    signed: bool = field(default=False, kw_only=True)
    rebuilds: bool = field(default=True, kw_only=True)
    baseline: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    own: bool = field(default=False, kw_only=True)

    @property
    def reduce(self) -> Reduce:
        """How ``to_heatmap`` should reduce channels."""
        return "positive_sum" if self.signed else "l2"

    def fitted_to(self, read: Callable[[], Any]) -> "MethodSpec":
        """Return a spec whose methods have seen images: itself where there is no need.

        Args:
            read: function that returns the images (N, C, H, W); called when the first method is built.
        """
        if not self.needs_fit:
            return self

        def build(model: Any, layer: nn.Module | str | None) -> Method:
            method: Any = self.build(model, layer)
            fitted: Method = method.fit(read())
            return fitted

        return replace(self, build=build, needs_fit=False)
