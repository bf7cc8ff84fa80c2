"""Guidance losses to compare S-IB with: each is cross-entropy plus one weighted term, usable like SIBLoss.

The terms themselves are in ``sibx.objectives.guidance_terms``. To add one: write its penalty there, and add a line to
GUIDANCE.
"""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from sibx._checks import (
    check_choice,
    check_images,
    check_logits,
    check_masks,
    check_range,
    check_same_batch,
    look_up,
    require,
)
from sibx._outputs import Criterion, Output, check_output, check_truth, usual_criterion
from sibx.attribution.cotangents import differentiate
from sibx.models.alignment import Align, find_alignment
from sibx.models.differentiable import twice_differentiable
from sibx.models.finding import find_cam_layer, resolve_layer
from sibx.models.layers import record
from sibx.models.layout import to_grid
from sibx.objectives.cases import lay_out
from sibx.objectives.guidance_terms import GUIDANCE, GuidanceSpec, Meaning, Penalty, swap_backgrounds
from sibx.objectives.terms import Batch


@dataclass(frozen=True, slots=True)
class GuidanceConfig:
    """Which guidance term is added to the cross-entropy, and how strongly.

    Attributes:
        method: key of GUIDANCE: which term.
        weight: factor of the term, at least 0.
        layer: dotted name of the layer, for a term that is taken at a layer; ``"auto"`` = the last feature map
            (``find_cam_layer``), looked up once for every model and shape of the images.
        align: how masks are brought to the layer's grid: ``receptive_field`` (default): by where its units look;
            ``half_pixel``: by dividing the image into equal cells.

    Raises:
        ValueError: a field outside its range, or a layer for a method that uses no layer.

    Example:
        >>> GuidanceConfig("energy-cam", weight=0.5).needs_masks
        True
    """

    method: str
    weight: float
    layer: str = "auto"
    align: Align = "receptive_field"

    def __post_init__(self) -> None:
        look_up("method", self.method, GUIDANCE)
        check_range("weight", self.weight, 0)
        check_choice("align", self.align, get_args(Align))
        rule = f"be 'auto' for method={self.method!r}, which uses no layer"
        require(self.spec.at_layer or self.layer == "auto", "layer", rule, self.layer)

    @property
    def spec(self) -> GuidanceSpec:
        """The method's line in GUIDANCE."""
        return GUIDANCE[self.method]

    @property
    def needs_masks(self) -> bool:
        """Whether masks have to be handed to the loss."""
        return self.spec.needs_masks

    def layer_for(self, model: nn.Module, images: Tensor) -> str:
        """Return the name of the layer, with ``"auto"`` replaced by the model's for these images; else ``"input"``."""
        if not self.spec.at_layer:
            return "input"
        return find_cam_layer(model, images) if self.layer == "auto" else self.layer


class GuidanceTerms(NamedTuple):
    """The loss and what it is made of.

    Attributes:
        total: the scalar to minimize.
        cross_entropy: cross-entropy of the unchanged images, detached.
        guidance: the unweighted term, detached: a mean over the images that take part, 0 if no image does; smaller is
            better.
        logits: logits (B, K), detached.
    """

    total: Tensor
    cross_entropy: Tensor
    guidance: Tensor
    logits: Tensor


class GuidanceLoss(nn.Module):
    """Cross-entropy and a guidance term: ``loss(model, images, labels, masks).total.backward()``.

    Args:
        config: settings of the loss.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.
        criterion: function ``(logits, labels) -> scalar``, what is learned beside the term; None = the cross-entropy,
            or for ``sigmoid`` the binary one. It is the ``cross_entropy`` of GuidanceTerms whatever it is.

    The model runs once, in the mode it is in; for ``background-swap`` its batch holds the images and the pasted images.
    """

    def __init__(self, config: GuidanceConfig, *, output: Output = "auto", criterion: Criterion | None = None):
        super().__init__()
        check_output(output)
        self.config, self.spec = config, config.spec
        self.meaning = Meaning(output, criterion or usual_criterion(output))

    def forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor | None = None, *, ramp: float = 1.0
    ) -> GuidanceTerms:
        """Compute the loss of one batch.

        Args:
            model: the model, images -> logits (B, K).
            images: images (B, C, H, W), floating point; B at least 2 for ``background-swap``.
            labels: class indices (B,), 0 and 1 for a single logit; or for several labels (B, K) in {0, 1, NaN}.
            masks: masks (B, 1, H, W) bool, True on the object. An image whose mask is empty takes no part in the term
                and lends no background. ``gradient-penalty`` uses no masks: every image takes part. With several labels
                one mask for each image and class present, in this order; what does not ask of one class (``rrr``,
                ``background-swap``) sees their union.
            ramp: factor in [0, 1] of the weighted term, for a warm-up.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, missing masks, B = 1 for
                ``background-swap``, a layer that does not exist or outputs no feature map, or a model whose output is
                not (B, K).
        """
        self._check(images, labels, masks)
        check_range("ramp", ramp, 0, 1)
        batch = self._batch(images.detach(), labels, masks if self.config.needs_masks else None)
        penalty = self.spec.penalty
        logits, guidance = self._swapped(model, batch) if penalty is None else self._explained(penalty, model, batch)
        learned, truth = batch.learned(logits)
        cross_entropy = self.meaning.criterion(learned, truth)
        total = cross_entropy + ramp * self.config.weight * guidance
        return GuidanceTerms(total, cross_entropy.detach(), guidance.detach(), learned.detach())

    def _batch(self, images: Tensor, labels: Tensor, masks: Tensor | None) -> Batch:
        """Return the images in rows; without masks everything is object."""
        batch = Batch(images, labels, masks)
        if labels.ndim == 2:
            batch = lay_out(batch, by_class=self.spec.by_class)
        everything = torch.ones_like(batch.images[:, :1], dtype=torch.bool)
        return batch._replace(masks=everything if batch.masks is None else batch.masks)

    def _explained(self, penalty: Penalty, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits, and the term of a method that penalizes a gradient."""
        assert batch.masks is not None
        layer = self.config.layer_for(model, batch.images)
        modules = {layer: resolve_layer(model, layer)} if self.spec.at_layer else {}
        alignment = find_alignment(model, layer, batch.images, self.config.align)
        leaf = batch.images.requires_grad_()
        with torch.enable_grad(), twice_differentiable(), record(model, modules, tokens=True) as activations:
            logits = model(leaf)
            self._check_logits(logits, batch)
            point = activations.get(layer, leaf)
            labels = batch.labels if penalty.by_class else batch.learned(logits)[1]
            (gradients,) = differentiate(penalty.scalar(logits, labels, self.meaning), [point], create_graph=True)
        gradients, point = (to_grid(t, batch.size) for t in (gradients, point))
        pooled = alignment.pool(batch.masks.to(point.dtype), (point.shape[2], point.shape[3]))
        rows = batch.masks.flatten(1).any(1)
        return logits, penalty.of_gradient(gradients, point, pooled)[rows].sum() / rows.sum().clamp(min=1)

    def _swapped(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits, and the cross-entropy of the objects on each other's backgrounds."""
        assert batch.masks is not None
        (rows,) = batch.masks.flatten(1).any(1).nonzero(as_tuple=True)
        rows = rows if len(rows) > 1 else rows[:0]  # a single object has no other background
        with torch.enable_grad():
            logits = model(torch.cat([batch.images, swap_backgrounds(batch.images[rows], batch.masks[rows])]))
        check_logits(logits, len(batch.images) + len(rows))
        clean, swapped = logits.split([len(batch.images), len(rows)])
        self._check_logits(clean, batch)
        return clean, self.meaning.criterion(swapped, batch.alone()[rows]) if len(rows) else swapped.sum()

    def _check_logits(self, logits: Tensor, batch: Batch) -> None:
        check_logits(logits, len(batch.images))
        learned, truth = batch.learned(logits)
        check_truth(truth, learned, self.meaning.output)

    def _check(self, images: Tensor, labels: Tensor, masks: Tensor | None) -> None:
        check_images(images)
        alone = self.spec.penalty is None and len(images) < 2
        require(not alone, "images", "have at least 2 rows (an object needs another image's background)", images)
        check_same_batch(images, labels=labels)
        rule = f"be given for method={self.config.method!r}"
        require(masks is not None or not self.config.needs_masks, "masks", rule, None)
        if masks is not None and labels.ndim == 1:
            check_masks(masks, images)
