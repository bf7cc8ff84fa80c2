"""What a metric sees: one batch of images explained by one method."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from sibx._outputs import Output
from sibx.images.normalization import Normalization

Explain = Callable[[Tensor, Tensor], Tensor]  # (images (B, C, H, W), targets (B,)) -> heatmaps (B, 1, H, W), at least 0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """One batch of images explained by one method: everything a metric may look at.

    What several metrics need is computed when the first of them asks (``once``); curves go to the runner (``keep``).

    Attributes:
        heatmaps: (B, 1, H, W), floating point, at least 0.
        masks: (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.
        images: (B, C, H, W), normalized.
        targets: (B,) the class explained.
        model: images -> logits (B, K), in eval mode.
        normalization: normalization of the images.
        output: what the model's logits are.
        batch_size: largest forward pass.
        seed: seed of everything random.
        method: name of the method in results, "" where it has none.
        attributions: (B, 1, H, W), one value per pixel with its sign; None = the heatmaps, where a sign means nothing.
        baseline: images -> images (B, C, H, W), whose logit and the attributions add up to that of the images; None =
            the method promises no such thing.
        layer: layer that metrics look at which look into the model, its name or the module; None = ``find_cam_layer``.
        explain: (images, targets) -> heatmaps, by the method that made these; for metrics that explain again.
        explain_with: model -> function like ``explain``, by the same method for another model of the same architecture;
            for metrics that change the model.
        curves: what was kept: name of the curve -> (x (S,), y (B, S)).
    """

    heatmaps: Tensor
    masks: Tensor
    undefined: Tensor
    images: Tensor
    targets: Tensor
    model: Callable[[Tensor], Tensor]
    normalization: Normalization
    output: Output = "auto"
    batch_size: int = 64
    seed: int = 0
    method: str = ""
    attributions: Tensor | None = None
    baseline: Callable[[Tensor], Tensor] | None = None
    layer: nn.Module | str | None = None
    explain: Explain | None = None
    explain_with: Callable[[nn.Module], Explain] | None = None
    curves: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)
    _computed: dict[Callable[["Explained"], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[["Explained"], T]) -> T:
        """Return ``compute(self)``, which runs when the first metric asks for it; the others get the same object.

        Args:
            compute: a function with a name of its own; a lambda would be another one each time.
        """
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        found: T = self._computed[compute]
        return found

    def keep(self, curve: str, x: Tensor, y: Tensor) -> None:
        """Leave a curve for the runner, which writes a row for every image and point.

        Args:
            curve: name of the curve.
            x: (S,).
            y: (B, S).
        """
        self.curves[curve] = x, y

    @property
    def signed(self) -> Tensor:
        """The attributions with their sign, or the heatmaps where the method has none; (B, 1, H, W)."""
        return self.heatmaps if self.attributions is None else self.attributions

    def explainer(self) -> Explain:
        """Return the function ``explain``.

        Raises:
            ValueError: it was not given.
        """
        if self.explain is None:
            raise ValueError("`explain` must be given for a metric that explains again, but got None.")
        return self.explain
