"""What a metric sees, and its line in the METRICS table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from sibx.images.normalization import Normalization
from sibx.metrics.confidence import Confidence, masked_probability
from sibx.metrics.perturbation import Perturbations
from sibx.metrics.road import Removal, removal

Explain = Callable[[Tensor, Tensor], Tensor]  # (images (B, C, H, W), targets (B,)) -> heatmaps (B, 1, H, W), at least 0


@dataclass(frozen=True)
class Evidence:
    """Everything a metric may look at for one batch of images explained by one method.

    What several metrics need of the model is computed when the first of them asks, and kept.

    Attributes:
        heatmaps: (B, 1, H, W) float32, at least 0.
        masks: (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, pixels that take no part.
        images: (B, C, H, W), normalized.
        targets: (B,) the class explained.
        model: images -> logits (B, K), in eval mode.
        normalization: of the images.
        batch_size: largest forward pass.
        seed: of everything random.
        attributions: (B, 1, H, W), one value per pixel with its sign; None = the heatmaps, where a sign means nothing.
        explain: (images, targets) -> heatmaps, by the method that made these; for metrics that explain again.
        explain_with: model -> function like ``explain``, by the same method for another model of the same architecture;
            for metrics that change the model.
        curves: a metric may leave curves here: name -> (x (S,), y (B, S)); the runner keeps them.
    """

    heatmaps: Tensor
    masks: Tensor
    undefined: Tensor
    images: Tensor
    targets: Tensor
    model: Callable[[Tensor], Tensor]
    normalization: Normalization
    batch_size: int = 64
    seed: int = 0
    attributions: Tensor | None = None
    explain: Explain | None = None
    explain_with: Callable[[nn.Module], Explain] | None = None
    curves: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @cached_property
    def perturbations(self) -> Perturbations:
        """The perturbation curves, of which all metrics see the same."""
        return Perturbations(
            self.model,
            self.images,
            self.heatmaps,
            self.targets,
            normalization=self.normalization,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    @property
    def clean_probability(self) -> Tensor:
        """Probability of the target on the images as they are, (B,) float64; the end point of every curve."""
        return self.perturbations.clean_probability

    @cached_property
    def confidence(self) -> Confidence:
        """The clean probability, and what is left of it when the images are seen through their heatmaps."""
        seen = masked_probability(self.model, self.images, self.heatmaps, self.targets, batch_size=self.batch_size)
        return Confidence(self.clean_probability, seen)

    @cached_property
    def removal(self) -> Removal:
        """The clean images with shares of their pixels imputed, most and least relevant first."""
        return removal(
            self.model,
            self.images,
            self.heatmaps,
            self.targets,
            normalization=self.normalization,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def explained_again(self) -> Explain:
        """The function ``explain``.

        Raises:
            ValueError: it was not given.
        """
        if self.explain is None:
            raise ValueError("`explain` must be given for a metric that explains again, but got None.")
        return self.explain


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One line of the METRICS table.

    Attributes:
        name: key in the table.
        title: name for people.
        score: Evidence -> (B,) float64, NaN where undefined.
        higher_is_better: direction.
        bounds: smallest and largest value.
        chance: what a flat or random map gets, in words.
        needs_masks: whether it is undefined without masks.
        needs_model: whether it runs the model.
        reference: where it comes from.
        needs_module: whether the model has to be a ``torch.nn.Module``, since its parameters change.
    """

    name: str
    title: str
    score: Callable[[Evidence], torch.Tensor]
    higher_is_better: bool
    bounds: tuple[float, float]
    chance: str
    needs_masks: bool
    needs_model: bool
    reference: str
    needs_module: bool = field(default=False, kw_only=True)
