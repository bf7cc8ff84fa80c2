"""The S-IB loss: cross-entropy, a term for the foreground, and a term for the background of the VJP map R.

Departures from the paper (none in ``SIBConfig.published()`` at 224 px, in float32 and without masks):

- VJPs may be taken at feature layers, several at once, each with a weight; tokens are laid out as a grid. The strength
  of R at a layer is the contribution ``|sum_k R_k a_k|`` per position, and masks and images are averaged over the cells
  around the points where the layer's units look (``align``).
- The window of the density mask is 31 pixels at 224 px and in proportion otherwise.
- Masks may come from the data or from the starting model (averaged over moved copies of the image), may be read from
  the evidence for all classes, may be hard, may be cut along the image's edges, and may be detached.
- ``Fraction`` and ``CKA`` are the two terms without their scale; ``Contrast`` asks for this image's mask beyond the
  batch's mean mask. ``log_probability`` and ``centered_logit`` are cotangents that neither saturate nor reward flipping
  the sign of the contributions (``logit`` rewards it: a warning says so if it happens).
- HSIC may take a Gaussian kernel, its unbiased estimator, and randomly projected rows.
- ``swap`` adds the cross-entropy of the object's features on another image's mean background features.
- ``balance`` measures gradients and scales the terms: ``GradNorm`` so that a weight says how long the term's gradient
  is, as a share of the cross-entropy's; ``Share`` so that all terms together pull a share as hard, never against it.
- An image without any object pixel (no mask known, or the object cropped away) takes no part in the S-IB terms.
- The background term of an image whose mask leaves no background pixel is 0, not what rounding makes of it.
- Pixels marked undefined (trimap boundary, void) that no mask claims are neither object nor background: R there enters
  no term.
- Under autocast only the model runs in half precision; the paper trains in float32.

Under ``torch.distributed`` every rank computes the loss of the global batch, all ranks' images in rank order, from
gathered per-image values. The terms are the same on every rank, and DistributedDataParallel's average is the gradient
that one process would get (``sibx.runs.ranks`` says why). Only BatchNorm in train mode still uses the images of its own
rank alone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sibx._checks import check_images, check_logits, check_range, check_same_batch, require
from sibx._hsic import RandomProjection, unit_rows
from sibx._outputs import Criterion, Output, check_output, check_truth, usual_criterion
from sibx.attribution.cotangents import CLASS_SCORES, differentiate, potential_of_checked
from sibx.models.alignment import Alignment, find_alignment
from sibx.models.differentiable import keep_way, twice_differentiable
from sibx.models.failures import say_why
from sibx.models.finding import resolve_layer
from sibx.models.layers import frozen_batch_norm, module_of, record
from sibx.models.layout import to_grid
from sibx.objectives.balance import gradient_norm
from sibx.objectives.cases import check_regions, lay_out
from sibx.objectives.config import SIBConfig
from sibx.objectives.evidence import contribution
from sibx.objectives.masks import View
from sibx.objectives.own_masks.frozen import layer_weights
from sibx.objectives.precision import full_precision, gradients_on, no_autocast
from sibx.objectives.sign_flip import SignFlipGuard
from sibx.objectives.swap import BackgroundSwap
from sibx.objectives.terms import (
    Batch,
    LayerTerms,
    LossTerms,
    Parts,
    Point,
    fit_of,
    share_of_positive,
    term_values,
    term_weights,
    weighted_total,
)
from sibx.runs.ranks import gather_rows, world_size


class SIBLoss(nn.Module):
    """The S-IB loss, for any training loop: ``loss(model, images, labels, masks).total.backward()``.

    Args:
        config: settings of the loss; None = the published objective.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.
        criterion: function ``(logits, labels) -> scalar``, what is learned beside S-IB; None = the cross-entropy, or
            for ``sigmoid`` the binary one. It is the ``cross_entropy`` of LossTerms whatever it is.

    The model runs once, in the mode it is in (twice for a background swap on tokens). Under ``no_grad`` and
    ``inference_mode`` the terms are the same (a graph is built anyway, because R is a gradient) and the total is
    detached. Under autocast the model runs in half precision, and R, masks and every statistic are float32. Attention
    runs with the plain kernel, because the fused kernels have no second derivative. If a ``torch.distributed`` process
    group exists, all its ranks have to call the loss together, with equally many images each.

    Source: Shu, Meng, Luo, arXiv 2511.09239.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5), torch.rand(4, 3, 32, 32)
        >>> labels, masks = torch.tensor([0, 1, 2, 3]), images[:, :1] > 0.5
        >>> terms = SIBLoss(SIBConfig.recommended("given"))(model, images, labels, masks)
        >>> terms.total.backward()
        >>> terms.logits.shape
        torch.Size([4, 5])
    """

    def __init__(self, config: SIBConfig | None = None, *, output: Output = "auto", criterion: Criterion | None = None):
        super().__init__()
        check_output(output)
        self.config, self.output = config or SIBConfig(), output
        self._criterion = criterion or usual_criterion(output)
        foreground, balance = self.config.foreground, self.config.balance
        self._project = RandomProjection(foreground.projection) if foreground and foreground.projection else None
        self._least = foreground.least_rows if foreground else 1
        self._guard = SignFlipGuard()
        names = tuple(term_weights(self.config))
        self.balance = balance.build(names) if balance else None

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        undefined: Tensor | None = None,
        ramp: float = 1.0,
    ) -> LossTerms:
        """Compute the loss of one batch.

        Args:
            model: the model, images -> logits (B, K).
            images: images (B, C, H, W), floating point; over all ranks B at least 2, for the unbiased estimator 4,
                without a foreground term 1.
            labels: class indices (B,), 0 and 1 for a single logit; or for several labels (B, K) in {0, 1, NaN}.
            masks: masks (B, 1, H, W) bool, True on the object; needed for ``Given`` and ``Frozen`` masks. An image
                whose mask is empty takes no part in the S-IB terms and lends no background. With several labels one
                for each image and class present, in this order; every image then runs once for each of its classes.
            undefined: bool like ``masks``, True where it is not known whether a pixel is object (trimap boundary,
                void): if the mask is False there, it is neither object nor background. None = nowhere.
            ramp: factor in [0, 1] of all terms except the cross-entropy, for a warm-up.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, too few images, missing masks, a
                layer that does not exist, is named twice, or outputs neither a feature map (B, C, h, w) nor tokens
                (B, N, D) that fill a grid, or a model whose output is not (B, K).
        """
        self._check(images, labels, masks, undefined)
        check_range("ramp", ramp, 0, 1)
        recorded = torch.is_grad_enabled()
        with gradients_on():
            parts = self._parts(model, self._batch(images, labels, masks, undefined))
            learn = recorded and self.training
            if learn and parts.positive_share is not None:
                self._guard(parts.positive_share, self.config.cotangent)
            factors = self._factors(model, parts, learn=learn)
            total = parts.cross_entropy.lerp(weighted_total(self.config, parts, factors), ramp)
        zero = torch.zeros_like(parts.cross_entropy)
        layers = parts.layers.values()
        return LossTerms(
            total=total if recorded else total.detach(),
            cross_entropy=parts.cross_entropy.detach(),
            foreground=sum((t.weight * t.foreground.detach() for t in layers if t.foreground is not None), zero),
            background=sum((t.weight * t.background.detach() for t in layers if t.background is not None), zero),
            background_swap=zero if parts.background_swap is None else parts.background_swap.detach(),
            logits=parts.logits.detach(),
            soft_mask=parts.soft_mask.detach(),
            vjp=parts.vjp.detach(),
            saturated=gather_rows((parts.vjp.detach() == 0).flatten(1).all(1).long()).sum(),
            positive_share=torch.full_like(zero, torch.nan) if parts.positive_share is None else parts.positive_share,
        )

    def gradient_norms(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        undefined: Tensor | None = None,
    ) -> dict[str, float]:
        """Measure the influence of each term: the L2 norm of its gradient over the model's parameters.

        Terms are taken as they enter the total, with their weights (and the scales of ``balance``). A term that is
        orders of magnitude below the cross-entropy has no influence. Costs one forward pass, and one backward pass for
        every term with a weight. Nothing is changed: no ``.grad``, no statistic of BatchNorm, no scale, no random
        state.

        Args:
            model: the model, images -> logits (B, K).
            images: images (B, C, H, W), floating point.
            labels: class indices (B,).
            masks: masks (B, 1, H, W) bool, True on the object; needed for ``Given`` and ``Frozen`` masks.
            undefined: bool like ``masks``, True where it is not known whether a pixel is object; None = nowhere.

        Returns:
            The norm, at least 0, of ``cross_entropy``, ``foreground``, ``background`` and, if it has a weight,
            ``background_swap``. With several layers one pair for each: ``foreground[features.13]``. 0 where too few
            images have an object.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, too few images, missing masks, a
                layer that does not exist or outputs no map, or a model whose output is not (B, K).
        """
        self._check(images, labels, masks, undefined)
        devices = [images.device] if images.device.type == "cuda" else []
        with gradients_on(), frozen_batch_norm(model), torch.random.fork_rng(devices):
            parts = self._parts(model, self._batch(images, labels, masks, undefined))
            factors, weights = self._factors(model, parts, learn=False), term_weights(self.config)
            norms = {
                name: float(weights[name] * factors.get(name, 1.0) * gradient_norm(value, _trained(model)))
                for name, value in term_values(self.config, parts).items()
                if weights[name] > 0
            }
        return {name: norms.get(name, 0.0) for name in weights}

    def _factors(self, model: nn.Module, parts: Parts, *, learn: bool) -> dict[str, Tensor]:
        """Return the factors of the terms beside their weights; {} without ``balance``."""
        if self.balance is None:
            return {}
        values, weights = term_values(self.config, parts), term_weights(self.config)
        return self.balance.factors(values, weights, _trained(model), fit=fit_of(parts), learn=learn)

    def _batch(self, images: Tensor, labels: Tensor, masks: Tensor | None, undefined: Tensor | None) -> Batch:
        batch = Batch(images, labels, masks, undefined=undefined).recordable()
        if labels.ndim == 1:
            return batch.told_apart()
        return lay_out(batch, by_class=self.config.cotangent in CLASS_SCORES)

    def _parts(self, model: nn.Module, batch: Batch) -> Parts:
        """Run the model once, and compute the VJPs and every term."""
        arrange = self.config.masks.arrange
        batch = batch._replace(
            masks=None if batch.masks is None else arrange(batch.masks),
            # The model's masks of each step are of every pixel.
            undefined=arrange(batch.undefined) if batch.undefined is not None and self.config.needs_masks else None,
        )
        with say_why(model, batch.images):
            layers = layer_weights(model, self.config, batch.images)
        modules = {name: resolve_layer(model, name, batch.images) for name in layers if name != "input"}
        apart = {(module_of(m), getattr(m, "function", None)) for m in modules.values()}
        rule = "name every layer once (two of these names are the same layer)"
        require(len(apart) == len(modules), "layers", rule, list(modules))
        # Behind frozen weights a feature map would have no graph, and so no VJP.
        frozen = not all(p.requires_grad for p in model.parameters())
        leaf = batch.images.detach().requires_grad_("input" in layers or frozen)
        alignments = {name: find_alignment(model, name, batch.images, self.config.align) for name in layers}
        swap = self._swap(batch, modules, alignments)
        rewrites = swap.rewrites if swap else None
        with twice_differentiable(), say_why(model, batch.images):
            with record(model, modules, rewrites, tokens=True) as activations:
                logits = model(leaf)
            logits = swap.second_pass(model, leaf, logits) if swap else logits
        check_logits(logits, len(leaf) * (2 if swap else 1))
        keep_way(logits)
        learned, truth = batch.learned(logits[: len(leaf)])
        check_truth(truth, learned, self.output)
        with no_autocast(leaf):
            outputs = {"input": leaf, **activations}
            points = {name: Point(outputs[name], weight, alignments[name]) for name, weight in layers.items()}
            return self._terms(full_precision(logits), points, batch)

    def _swap(
        self, batch: Batch, modules: Mapping[str, nn.Module], alignments: Mapping[str, Alignment]
    ) -> BackgroundSwap | None:
        """Return what makes the second versions of the images at the last layer, None without a weight."""
        if self.config.swap == 0:
            return None
        assert batch.masks is not None
        return BackgroundSwap(batch.masks, modules, list(alignments.values())[-1], batch.undefined)

    def _terms(self, logits: Tensor, points: Mapping[str, Point], batch: Batch) -> Parts:
        """Compute every term from the logits of the images and, after a swap, of their second versions."""
        clean, swapped = logits.split([len(batch.images), len(logits) - len(batch.images)])
        # Images without an object pixel have no background either.
        rows, (learned, truth) = batch.with_object(), batch.learned(clean)
        scalar = potential_of_checked(clean, self.config.cotangent, batch.labels, self.output)
        gradients = differentiate(scalar, [p.tensor for p in points.values()], create_graph=True)
        terms, share = {}, None
        for (name, point), gradient in zip(points.items(), gradients, strict=True):
            vjp_map, activations = (to_grid(full_precision(t), batch.size) for t in (gradient, point.tensor))
            view = View(
                logits=clean,
                activations=point.tensor,
                vjp_map=vjp_map,
                masks=batch.masks,
                image_size=batch.size,
                alignment=point.alignment,
                output=self.output,
            )
            mask, grid = self.config.masks.at(view), (vjp_map.shape[2], vjp_map.shape[3])
            strength = vjp_map if name == "input" else contribution(vjp_map, activations)
            share = share if name == "input" else share_of_positive(strength.detach())
            if len(rows) >= self._least:
                images = point.alignment.pool(full_precision(batch.images), grid)
                undefined: Tensor | float = 0.0
                if batch.undefined is not None:
                    undefined = point.alignment.pool(batch.undefined.to(mask.dtype), grid)
                f = self._foreground(vjp_map, images, mask, rows)
                b = self._background(vjp_map, strength.abs(), mask, undefined, batch)
                b = None if b is None else b[rows].mean()
                terms[name] = LayerTerms(point.weight, f, b)
        swap = None
        if len(swapped) and len(rows):
            swap = self._criterion(gather_rows(swapped)[rows], gather_rows(batch.alone())[rows])
        logits, labels = gather_rows(learned), gather_rows(truth)
        return Parts(
            cross_entropy=self._criterion(logits, labels),
            blank=self._criterion(torch.zeros_like(logits), labels).detach(),
            layers=terms,
            background_swap=swap,
            logits=learned,
            soft_mask=mask,
            vjp=vjp_map,
            positive_share=share,
        )

    def _foreground(self, vjp_map: Tensor, images: Tensor, mask: Tensor, rows: Tensor) -> Tensor | None:
        """Return the foreground term of the global batch's images marked in ``rows``; x is brought to the grid of R."""
        if self.config.foreground is None:
            return None
        pairs = (unit_rows(vjp_map * mask), unit_rows(images * mask))
        a, b = (gather_rows(self._project(pair) if self._project else pair)[rows] for pair in pairs)
        return self.config.foreground(a, b)

    def _background(
        self, vjp_map: Tensor, strength: Tensor, mask: Tensor, undefined: Tensor | float, batch: Batch
    ) -> Tensor | None:
        """Return the background term of every image of the global batch."""
        if self.config.background is None:
            return None
        terms = self.config.background(vjp_map, strength, mask, undefined)
        # Without a background pixel it is what rounding leaves, which ``balance`` would draw to full length.
        return gather_rows(terms * batch.with_background() if self.config.needs_masks else terms)

    def _check(self, images: Tensor, labels: Tensor, masks: Tensor | None, undefined: Tensor | None) -> None:
        check_images(images)
        rule = f"have at least {self._least} rows (HSIC is not defined for fewer)"
        require(len(images) * world_size() >= self._least, "images", rule, images)
        check_same_batch(images, labels=labels)
        rule = f"be given for masks={self.config.masks} (self_masks computes the model's own)"
        require(masks is not None or not self.config.needs_masks, "masks", rule, None)
        check_regions(images, labels, masks, undefined)


def _trained(model: nn.Module) -> list[Tensor]:
    """Return the parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]
