"""Guidance losses to compare S-IB with: each is cross-entropy plus one weighted term, usable like SIBLoss.

The terms themselves are in ``sibx.objectives.guidance_table``.
"""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from sibx._checks import (
    check_choice,
    check_images,
    check_range,
    check_same_batch,
    look_up,
    require,
)
from sibx._for_notebooks import html_of_terms
from sibx._outputs import Criterion, Output, check_output, usual_criterion
from sibx.models.alignment import Align
from sibx.models.failures import say_why
from sibx.models.finding import name_layer
from sibx.objectives.cases import check_regions, lay_out
from sibx.objectives.guidance_parts import Meaning, Place
from sibx.objectives.guidance_table import GUIDANCE, GuidanceSpec
from sibx.objectives.terms import Batch


@dataclass(frozen=True, slots=True)
class GuidanceConfig:
    """Which guidance term is added to the cross-entropy, and how strongly.

    Attributes:
        method: key of GUIDANCE: which term.
        weight: factor of the term, at least 0.
        layer: dotted name of the layer, for a term that is taken at a layer, or ``"stage:-2"`` and so on
            (``find_cam_layers``); ``"auto"`` = the last feature map (``find_cam_layer``). They are looked up once for
            every model and shape of the images.
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
        return name_layer(model, None if self.layer == "auto" else self.layer, images)


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

    def _repr_html_(self) -> str:
        """Return a table of the terms, which notebooks show."""
        return html_of_terms(self._asdict())


class GuidanceLoss(nn.Module):
    """Cross-entropy and a guidance term: ``loss(model, images, labels, masks).total.backward()``.

    Args:
        config: settings of the loss.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.
        criterion: function ``(logits, labels) -> scalar``, what is learned beside the term; None = the cross-entropy,
            or for ``sigmoid`` the binary one. It is the ``cross_entropy`` of GuidanceTerms whatever it is.

    Under ``no_grad`` and ``inference_mode`` the terms are the same, and the total is detached.
    The model runs once, in the mode it is in; where second versions of images are compared, its batch holds both. For
    ``saliency-guided`` it runs once more before, in eval mode, and random numbers come from torch's generator.
    """

    def __init__(self, config: GuidanceConfig, *, output: Output = "auto", criterion: Criterion | None = None):
        super().__init__()
        check_output(output)
        self.config, self.spec = config, config.spec
        self.meaning = Meaning(output, criterion or usual_criterion(output))

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        undefined: Tensor | None = None,
        ramp: float = 1.0,
    ) -> GuidanceTerms:
        """Compute the loss of one batch.

        Args:
            model: the model, images -> logits (B, K).
            images: images (B, C, H, W), floating point; B at least 2 for ``background-swap``.
            labels: class indices (B,), 0 and 1 for a single logit; or for several labels (B, K) in {0, 1, NaN}.
            masks: masks (B, 1, H, W) bool, True on the object. An image whose mask is empty takes no part in the term
                and lends no background. Where the method uses no masks, every image takes part. With several labels one
                mask for each image and class present, in this order; what does not ask of one class (``rrr``, second
                versions by masks) sees their union, and what does (``saliency-guided``, too) leaves out an image
                without any.
            undefined: bool like ``masks``, True where it is not known whether a pixel is object (trimap boundary,
                void): if the mask is False there, it is neither object nor background, and stays as it is in a second
                version. None = nowhere.
            ramp: factor in [0, 1] of the weighted term, for a warm-up.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, missing masks, B = 1 for
                ``background-swap``, a layer that does not exist or outputs no feature map, or a model whose output is
                not (B, K).
        """
        self._check(images, labels, masks, undefined)
        check_range("ramp", ramp, 0, 1)
        regions = (masks, undefined) if self.config.needs_masks else (None, None)
        recorded = torch.is_grad_enabled()  # not in inference mode, whose tensors no term can be a gradient of
        with torch.inference_mode(False), torch.set_grad_enabled(recorded):
            batch = self._batch(images.detach(), labels, *regions)
            with say_why(model, images):
                place = Place(self.config.layer_for(model, images), self.config.align)
                logits, guidance = self.spec.term(model, batch, place, self.meaning)
            learned, truth = batch.learned(logits)
            cross_entropy = self.meaning.criterion(learned, truth)
            total = cross_entropy + ramp * self.config.weight * guidance
        return GuidanceTerms(total, cross_entropy.detach(), guidance.detach(), learned.detach())

    def _batch(self, images: Tensor, labels: Tensor, masks: Tensor | None, undefined: Tensor | None) -> Batch:
        """Return the images in rows; without masks everything is object."""
        batch = Batch(images, labels, masks, undefined=undefined).recordable()
        batch = batch.told_apart() if labels.ndim == 1 else lay_out(batch, by_class=self.spec.term.by_class)
        everything = torch.ones_like(batch.images[:, :1], dtype=torch.bool)
        return batch._replace(masks=everything if batch.masks is None else batch.masks)

    def _check(self, images: Tensor, labels: Tensor, masks: Tensor | None, undefined: Tensor | None) -> None:
        check_images(images)
        least = self.spec.term.least
        rule = f"have at least {least} rows (an object needs another image's background)"
        require(len(images) >= least, "images", rule, images)
        check_same_batch(images, labels=labels)
        rule = f"be given for method={self.config.method!r}"
        require(masks is not None or not self.config.needs_masks, "masks", rule, None)
        check_regions(images, labels, masks, undefined)
