"""Guidance losses to compare S-IB with: each is cross-entropy plus one weighted term, usable like SIBLoss.

The terms themselves are in ``sibx.objectives.guidance_terms``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sibx._checks import (
    check_choice,
    check_images,
    check_labels,
    check_logits,
    check_masks,
    check_range,
    check_same_batch,
    require,
)
from sibx.attribution.cotangents import differentiate, potential
from sibx.models.layers import find_cam_layer, record, resolve_layer, to_grid
from sibx.objectives.alignment import Alignment, layer_field, pool
from sibx.objectives.guidance_terms import energy_loss, gradient_penalty, l1_loss, rrr_loss, swap_backgrounds

Method = Literal["energy", "l1", "rrr", "energy-cam", "gradient-penalty", "background-swap"]


class _Explained(NamedTuple):
    """A method that differentiates a scalar once and penalizes the gradient."""

    scalar: Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> a sum over images
    penalty: Callable[[Tensor, Tensor, Tensor], Tensor]  # (its gradient, where it was taken, masks) -> (B,)


def _label_logit(logits: Tensor, labels: Tensor) -> Tensor:
    return potential(logits, "logit", labels)


def _energy(gradients: Tensor, point: Tensor, masks: Tensor) -> Tensor:
    return energy_loss((gradients * point).sum(1, keepdim=True), masks)


_EXPLAINED = {
    "energy": _Explained(_label_logit, _energy),
    "energy-cam": _Explained(_label_logit, _energy),
    "l1": _Explained(_label_logit, lambda g, x, m: l1_loss((g * x).sum(1, keepdim=True), m)),
    "rrr": _Explained(lambda z, _: z.log_softmax(1).sum(), lambda g, _, m: rrr_loss(g, m)),
    "gradient-penalty": _Explained(
        lambda z, y: F.cross_entropy(z, y, reduction="sum"), lambda g, _, __: gradient_penalty(g)
    ),
}


@dataclass(frozen=True, slots=True)
class GuidanceConfig:
    """Which guidance term is added to the cross-entropy, and how strongly.

    Attributes:
        method: ``energy``: the Energy loss on Input x Gradient of the label's logit (``energy_loss``); ``l1``: the L1
            loss on the same (``l1_loss``); ``energy-cam``: the Energy loss on the contributions ``sum_k g_k a_k`` at a
            layer, with the mask averaged to its grid; ``rrr``: right for the right reasons (``rrr_loss``);
            ``gradient-penalty``: double backpropagation, which needs no masks (``gradient_penalty``);
            ``background-swap``: the cross-entropy of every object on another image's background
            (``swap_backgrounds``).
        weight: of the term, at least 0.
        layer: for ``energy-cam``: dotted name; ``"auto"`` = the last feature map (``find_cam_layer``). GuidanceLoss
            looks ``"auto"`` up at every call, by running the model on one small image; ``fine_tune`` does it once.
        align: for ``energy-cam``: how masks reach the layer's grid, as in SIBConfig.

    Raises:
        ValueError: a field outside its range, or a layer for a method that uses none.
    """

    method: Method
    weight: float
    layer: str = "auto"
    align: Alignment = "receptive_field"

    masks: ClassVar[Literal["given"]] = "given"  # where they come from, as in SIBConfig

    def __post_init__(self) -> None:
        check_choice("method", self.method, get_args(Method))
        check_range("weight", self.weight, 0)
        check_choice("align", self.align, get_args(Alignment))
        rule = f"be 'auto' for method={self.method!r}, which uses none"
        require(self.method == "energy-cam" or self.layer == "auto", "layer", rule, self.layer)

    def resolved(self, model: nn.Module) -> "GuidanceConfig":
        """Return these settings with ``"auto"`` replaced by the model's layer, where the method uses one."""
        if self.method != "energy-cam" or self.layer != "auto":
            return self
        return replace(self, layer=find_cam_layer(model))


class GuidanceTerms(NamedTuple):
    """The loss and what it is made of.

    Attributes:
        total: the scalar to minimize.
        cross_entropy: of the images as they are, detached.
        guidance: the unweighted term, a mean over the images that take part, 0 without any; smaller is better;
            detached.
        logits: (B, K), detached.
    """

    total: Tensor
    cross_entropy: Tensor
    guidance: Tensor
    logits: Tensor


class GuidanceLoss(nn.Module):
    """Cross-entropy and a guidance term: ``loss(model, images, labels, masks).total.backward()``.

    Args:
        config: see GuidanceConfig.

    The model runs once, in the mode it is in; ``background-swap`` hands it the images and the pasted ones in one batch.
    """

    def __init__(self, config: GuidanceConfig):
        super().__init__()
        self.config = config

    def forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor | None = None, *, ramp: float = 1.0
    ) -> GuidanceTerms:
        """Compute the loss of one batch.

        Args:
            model: images -> logits (B, K).
            images: (B, C, H, W) floating point; B at least 2 for ``background-swap``.
            labels: (B,) class indices.
            masks: (B, 1, H, W) bool, True on the object. An image whose mask is empty takes no part in the term (it
                lends no background either). ``gradient-penalty`` looks at no mask: every image takes part.
            ramp: share in [0, 1] of the weighted term that enters the total, for a warm-up.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, missing masks, B = 1 for
                ``background-swap``, a layer that does not exist or outputs no feature map, or a model whose output is
                not (B, K).
        """
        self._check(images, labels, masks)
        check_range("ramp", ramp, 0, 1)
        if masks is None or self.config.method == "gradient-penalty":
            masks = torch.ones_like(images[:, :1], dtype=torch.bool)
        compute = self._swapped if self.config.method == "background-swap" else self._explained
        logits, guidance = compute(model, images.detach(), labels, masks)
        cross_entropy = F.cross_entropy(logits, labels)
        total = cross_entropy + ramp * self.config.weight * guidance
        return GuidanceTerms(total, cross_entropy.detach(), guidance.detach(), logits.detach())

    def _explained(self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the term of a method that penalizes a gradient."""
        scalar, penalty = _EXPLAINED[self.config.method]
        layer = self.config.resolved(model).layer
        on_layer = self.config.method == "energy-cam"
        modules = {layer: resolve_layer(model, layer)} if on_layer else {}
        field = layer_field(model, layer if on_layer else "input", images, self.config.align)
        leaf = images.requires_grad_()
        # The fused kernels of attention have no second derivative.
        kernel = sdpa_kernel(SDPBackend.MATH)
        with torch.enable_grad(), kernel, record(model, modules, tokens=True) as activations:
            logits = model(leaf)
            check_logits(logits, len(images))
            check_labels(labels, logits)
            point = activations.get(layer, leaf)
            (gradients,) = differentiate(scalar(logits, labels), [point], create_graph=True)
        gradients, point = (to_grid(t, (images.shape[2], images.shape[3])) for t in (gradients, point))
        pooled = pool(masks.to(point.dtype), (point.shape[2], point.shape[3]), field)
        rows = masks.flatten(1).any(1)
        return logits, penalty(gradients, point, pooled)[rows].sum() / rows.sum().clamp(min=1)

    def _swapped(self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the cross-entropy of the objects on each other's backgrounds."""
        (rows,) = masks.flatten(1).any(1).nonzero(as_tuple=True)
        rows = rows if len(rows) > 1 else rows[:0]  # a single object has no other background
        with torch.enable_grad():
            logits = model(torch.cat([images, swap_backgrounds(images[rows], masks[rows])]))
        check_logits(logits, len(images) + len(rows))
        clean, swapped = logits.split([len(images), len(rows)])
        check_labels(labels, clean)
        return clean, F.cross_entropy(swapped, labels[rows], reduction="sum") / max(1, len(rows))

    def _check(self, images: Tensor, labels: Tensor, masks: Tensor | None) -> None:
        method = self.config.method
        check_images(images)
        alone = method == "background-swap" and len(images) < 2
        require(not alone, "images", "have at least 2 rows (an object needs another image's background)", images)
        check_same_batch(images, labels=labels)
        rule = f"be given for method={method!r}"
        require(masks is not None or method == "gradient-penalty", "masks", rule, None)
        if masks is not None:
            check_masks(masks, images)
