"""The S-IB loss: cross-entropy, shared information in the foreground, silence in the background.

Where this departs from the paper (``SIBConfig.published()`` departs nowhere):

- VJPs may be taken at feature layers. Their strength there is the contribution ``|sum_k R_k a_k|`` per position, and
  masks and images are area-averaged to the layer's grid.
- Masks may come from the data or from the starting model, and may be detached.
- ``fraction`` and ``cka`` are the two terms without their scale; ``log_probability`` and the centered logit are
  cotangents that neither saturate nor reward flipping the sign of the contributions.
- HSIC may take a Gaussian kernel, its unbiased estimator, and randomly projected rows.
- ``background_swap`` adds the cross-entropy of the object's features on another image's mean background features.
- An image without any object pixel (no mask known, or cropped away) takes no part in the S-IB terms.

Under ``torch.distributed`` every rank computes the loss of the global batch, all ranks' images in rank order, from
gathered per-image values: the terms are the same on every rank, and DistributedDataParallel's average is the gradient
that one process would get (``sibx.train.distributed`` says why). Only a BatchNorm in train mode still sees its own
rank's images alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import check_images, check_labels, check_logits, check_masks, check_same_batch, require
from sibx.attribution.vjp import differentiate, potential
from sibx.models.layers import record, resolve_layer
from sibx.train.config import SIBConfig
from sibx.train.distributed import gather_rows, previous_rows, world_size
from sibx.train.evidence import class_evidence, contribution, layer_weights
from sibx.train.hsic import MINIMUM_ROWS, RandomProjection, cka, hsic, unit_rows

EPSILON = 1e-12  # keeps a fraction finite where R is exactly zero; such an image then contributes zero


class LossTerms(NamedTuple):
    """The loss and what it is made of; terms are unweighted sums over layers (times the layer's own weight).

    Scalars are of the global batch; logits, mask and map are of this rank's images.

    Attributes:
        total: the scalar to minimize.
        cross_entropy: of the clean images.
        foreground: HSIC or CKA of R M and x M; larger is better.
        background: variance or fraction of R outside M; smaller is better.
        background_swap: cross-entropy with swapped backgrounds, 0 when switched off.
        logits: (B, K), detached.
        soft_mask: M at the last layer named, (B, 1, h, w), detached.
        vjp: R at the last layer named, (B, C, h, w), detached.
        saturated: number of images whose R is exactly zero at the last layer named: the cotangent has vanished there
            (v = p of a saturated softmax), and a small background says nothing.
        positive_share: ``sum(c+) / sum(|c|)`` of the contributions at the last feature layer named, in [0, 1]; NaN
            when only ``"input"`` is named or all c are zero. Below 1/2 the class is argued for by what is absent: a
            shift-sensitive cotangent (``logit``) lowers ``sum(|c|)`` by turning signs around.
    """

    total: Tensor
    cross_entropy: Tensor
    foreground: Tensor
    background: Tensor
    background_swap: Tensor
    logits: Tensor
    soft_mask: Tensor
    vjp: Tensor
    saturated: Tensor
    positive_share: Tensor


class SIBLoss(nn.Module):
    """The S-IB loss, for any training loop: ``loss(model, images, labels, masks).total.backward()``.

    Args:
        config: see SIBConfig; default the published objective.

    The model runs once, in the mode it is in. Once a ``torch.distributed`` process group exists, all its ranks have to
    call the loss together, with equally many images each. Source: Shu, Meng, Luo, arXiv 2511.09239.
    """

    def __init__(self, config: SIBConfig | None = None):
        super().__init__()
        self.config = config or SIBConfig()
        self._project = RandomProjection(self.config.projection) if self.config.projection else None

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor | None = None) -> LossTerms:
        """Compute the loss of one batch.

        Args:
            model: images -> logits (B, K).
            images: (B, C, H, W) floating point, B at least 2, or 4 for the unbiased estimator, over all ranks.
            labels: (B,) class indices.
            masks: (B, 1, H, W) bool, True on the object; needed for ``given`` and ``self-frozen`` masks. An image whose
                mask is empty takes no part in the S-IB terms.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, too few images, missing masks, a
                layer that does not exist or outputs no feature map, or a model whose output is not (B, K).
        """
        self._check(images, labels, masks)
        layers = layer_weights(model, self.config)
        leaf = images.detach().requires_grad_("input" in layers)
        modules = {name: resolve_layer(model, name) for name in layers if name != "input"}
        swap = _BackgroundSwap(masks, modules) if self.config.background_swap > 0 else None
        with torch.enable_grad(), record(model, modules, swap.rewrites if swap else None) as activations:
            logits = model(leaf)
        clean, swapped = swap.unstack(logits) if swap else (logits, None)
        check_logits(clean, len(images))
        check_labels(labels, clean)
        return self._sum_up(clean, swapped, {"input": leaf, **activations}, layers, images, labels, masks)

    def _sum_up(
        self,
        logits: Tensor,
        swapped: Tensor | None,
        points: Mapping[str, Tensor],
        layers: Mapping[str, float],
        images: Tensor,
        labels: Tensor,
        masks: Tensor | None,
    ) -> LossTerms:
        config = self.config
        zero = logits.new_zeros(())
        scalar = potential(logits, config.cotangent, labels)
        vjp_maps = differentiate(scalar, [points[name] for name in layers], create_graph=True)
        # Images without an object pixel have no background either.
        rows = gather_rows(torch.ones_like(labels) if masks is None else masks.flatten(1).sum(1)) > 0
        enough = int(rows.sum()) >= MINIMUM_ROWS[config.estimator]
        all_labels = gather_rows(labels)
        cross_entropy = F.cross_entropy(gather_rows(logits), all_labels)
        total, foreground, background, share = cross_entropy, zero, zero, zero + torch.nan
        for (name, weight), vjp_map in zip(layers.items(), vjp_maps, strict=True):
            soft_mask = self._mask(logits, points[name], vjp_map, masks)
            strength = vjp_map if name == "input" else contribution(vjp_map, points[name])
            share = share if name == "input" else _positive_share(strength.detach())
            if not enough:
                continue
            f = self._foreground(vjp_map, images, soft_mask, rows)
            b = gather_rows(self._background(vjp_map, strength.abs(), soft_mask))[rows].mean()
            total = total + weight * self._weigh(f, b)
            foreground, background = foreground + weight * f.detach(), background + weight * b.detach()
        swap_term = zero
        if swapped is not None and rows.any():
            swap_term = F.cross_entropy(gather_rows(swapped)[rows], all_labels[rows])
            total = total + config.background_swap * swap_term
        return LossTerms(
            total,
            cross_entropy.detach(),
            foreground,
            background,
            swap_term.detach(),
            logits.detach(),
            soft_mask.detach(),
            vjp_map.detach(),
            gather_rows((vjp_map.detach() == 0).flatten(1).all(1).long()).sum(),
            share,
        )

    def _weigh(self, foreground: Tensor, background: Tensor) -> Tensor:
        f, b = self.config.foreground_weight, self.config.background_weight
        if self.config.form == "linear":
            return b * background - f * foreground
        return b * background.exp() + f * (-foreground).exp()

    def _mask(self, logits: Tensor, point: Tensor, vjp_map: Tensor, masks: Tensor | None) -> Tensor:
        """M (B, 1, h, w) at the grid of one layer."""
        if self.config.masks != "self-online":
            assert masks is not None
            return _pool(masks.to(point.dtype), point)
        source = class_evidence(logits, point) if self.config.mask_source == "class-evidence" else vjp_map
        mask = self.config.mask(source)
        return mask.detach() if self.config.detach_mask else mask

    def _foreground(self, vjp_map: Tensor, images: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """HSIC or CKA of the global batch's images marked in ``rows``."""
        pairs = (unit_rows(vjp_map * mask), unit_rows(_pool(images, vjp_map) * mask))
        a, b = (gather_rows(self._project(pair) if self._project else pair)[rows] for pair in pairs)
        dependence = hsic if self.config.foreground == "hsic" else cka
        return dependence(a, b, kernel=self.config.kernel, estimator=self.config.estimator)

    def _background(self, vjp_map: Tensor, strength: Tensor, mask: Tensor) -> Tensor:
        """Per image, (B,)."""
        if self.config.background == "variance":
            return (vjp_map * (1 - mask)).flatten(1).var(1)
        outside, everywhere = (s.flatten(1).sum(1) for s in (strength * (1 - mask), strength))
        return outside / everywhere.clamp(min=EPSILON)

    def _check(self, images: Tensor, labels: Tensor, masks: Tensor | None) -> None:
        check_images(images)
        least = MINIMUM_ROWS[self.config.estimator]
        rule = f"have at least {least} rows ({self.config.estimator} HSIC is not defined for fewer)"
        require(len(images) * world_size() >= least, "images", rule, images)
        check_same_batch(images, labels=labels)
        needed = self.config.masks != "self-online"
        rule = f"be given for masks={self.config.masks!r} (self_masks computes the model's own)"
        require(masks is not None or not needed, "masks", rule, None)
        if masks is not None:
            check_masks(masks, images)


def _pool(tensor: Tensor, like: Tensor) -> Tensor:
    """Average (B, C, H, W) over areas to the grid of another tensor; the identity when it is the same."""
    return F.adaptive_avg_pool2d(tensor, (like.shape[2], like.shape[3]))


def _positive_share(contributions: Tensor) -> Tensor:
    """Share of the summed strength (B, 1, h, w) of the global batch that is positive."""
    sums = torch.stack([contributions.clamp(min=0).flatten(1).sum(1), contributions.abs().flatten(1).sum(1)], 1)
    positive, everything = gather_rows(sums).sum(0)
    return positive / everything


class _BackgroundSwap:
    """Lets the model's tail see every image twice: as it is, and with another image's background features.

    At the last layer named, ``a M + (1 - M) mean_background(a of the previous image)`` is stacked under ``a``, so one
    forward pass gives both logits.
    """

    def __init__(self, masks: Tensor | None, modules: Mapping[str, nn.Module]):
        assert masks is not None
        self.masks = masks
        self.rewrites = {list(modules)[-1]: self._stack}

    def _stack(self, activations: Tensor) -> Tensor:
        mask = _pool(self.masks.to(activations.dtype), activations)
        outside = 1 - mask
        background = (activations * outside).sum((2, 3), keepdim=True) / outside.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.cat([activations, activations * mask + outside * previous_rows(background)])

    @staticmethod
    def unstack(logits: Tensor) -> tuple[Tensor, Tensor]:
        clean, swapped = logits.chunk(2)
        return clean, swapped
