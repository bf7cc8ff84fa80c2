"""What a layer contributes to the classes, and masks made of it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sibx._checks import require
from sibx.attribution.cotangents import differentiate, potential
from sibx.datasets.base import MaskedDataset, collate
from sibx.models.layers import eval_mode, find_cam_layer, record, resolve_layer, to_grid
from sibx.objectives.alignment import draw, layer_field
from sibx.objectives.config import SIBConfig
from sibx.objectives.own_masks.grab_cut import GrabCut, cut_masks
from sibx.objectives.own_masks.sufficient import SufficientShare, sufficient_masks

SHIFT = 1 / 16  # of a side: half a cell of a stride-8 net at 64 px; averages out the grid's phase


def layer_weights(model: nn.Module, config: SIBConfig) -> Mapping[str, float]:
    """Return layer name -> weight, with ``"auto"`` resolved for the model."""
    return {find_cam_layer(model): 1.0} if isinstance(config.layers, str) else config.layers


def contribution(vjp_map: Tensor, activations: Tensor) -> Tensor:
    """Return ``c = sum_k R_k a_k`` (B, 1, h, w): the first-order contribution of every position, signed."""
    return (vjp_map * activations).sum(1, keepdim=True)


def class_evidence(
    logits: Tensor,
    activations: Tensor,
    image_size: tuple[int, int] | None = None,
    cotangents: int | None = None,
) -> Tensor:
    """Return the standard deviation over classes of every position's contribution, (B, 1, h, w), at least 0.

    ``std_k(sum_c dz_k/da_c a_c)``, the energy of all class VJPs; it needs no label. A position that speaks for all
    classes alike has none. For a network that ends in global average pooling and one linear layer this is
    ``std_k(w_k . a) / (h w)``; here it is computed for any tail, by one backward pass through it per cotangent.

    The squares of the contributions of K - 1 orthonormal cotangents v, each of sum 0, add up to K - 1 times the
    variance over classes. Fewer of them, drawn at random once for each K, give an unbiased estimate of the variance.

    Args:
        logits: (B, K), computed from the activations, K at least 2.
        activations: (B, C, h, w), or tokens (B, N, D), in the graph of the logits.
        image_size: (H, W) of the image, which tokens need to be laid out.
        cotangents: how many at most, at least 1; None = K - 1, exact.

    The result is detached.

    Raises:
        ValueError: logits of fewer than two classes.
    """
    require(logits.shape[1] >= 2, "logits", "have at least 2 classes, which the evidence sets apart", logits)
    features = activations.detach().to(logits.dtype)
    squares = []
    for cotangent in _contrasts(logits.shape[1])[:cotangents].to(logits):
        (gradient,) = torch.autograd.grad((logits @ cotangent).sum(), activations, retain_graph=True)
        product = gradient * features
        grid = to_grid(product, image_size) if image_size else product
        squares.append(grid.sum(1, keepdim=True).square())
    return torch.stack(squares).mean(0).sqrt()


@cache
def _contrasts(classes: int) -> Tensor:
    """K - 1 random orthonormal vectors (K - 1, K) of sum 0."""
    vectors = torch.randn(classes, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors[:, 0] = 1
    return torch.linalg.qr(vectors).Q[:, 1:].T.contiguous()


def self_masks(
    model: nn.Module,
    dataset: MaskedDataset,
    *,
    config: SIBConfig,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Tensor:
    """Compute the frozen self masks of a model, one per image of the data set, in its order.

    The evidence at the layer (class evidence, or the strength of the VJP, by ``config.mask_source``) is drawn at the
    image's size (by ``config.align``), averaged over four copies of it (mirrored or not, shifted by 1/16 of a side or
    not, each moved back), and turned into a mask by ``config.mask`` (a soft one is cut at 1/2).

    Args:
        model: the starting model; evaluated in eval mode and left in the mode it was in.
        dataset: images; their masks are not looked at.
        config: ``mask_layer`` (None = the last of ``layers``), ``mask_source``, ``cotangent``, ``align`` and ``mask``.
        batch_size: images per pass.
        device: where to compute; None = the model's.
        progress: whether to show a progress bar on stderr.

    Returns:
        (N, 1, H, W) bool on the CPU.

    Raises:
        ValueError: a layer that does not exist, outputs neither a feature map nor tokens, or cannot be aligned.
    """
    device = device or next(model.parameters()).device
    weights = layer_weights(model, config)  # looking up "auto" runs the model once; once is enough
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    parts = [
        evidence_masks(model, batch.images.to(device), replace(config, layers=weights)).cpu()
        for batch in tqdm(loader, desc="self masks", leave=False, disable=not progress)
    ]
    return torch.cat(parts)


def evidence_masks(model: nn.Module, images: Tensor, config: SIBConfig) -> Tensor:
    """Compute the model's own masks of one batch, as ``self_masks`` does: (B, 1, H, W) bool, detached.

    For masks that follow the model while it learns, or those of a teacher; arguments and errors as ``self_masks``,
    images (B, C, H, W) on the model's device.
    """
    layer = config.mask_layer or list(layer_weights(model, config))[-1]
    with eval_mode(model):
        evidence = _averaged_evidence(model, layer, images, config)
        if isinstance(config.mask, SufficientShare):
            return sufficient_masks(model, layer, images, evidence, config.mask, config.align)
        if isinstance(config.mask, GrabCut):
            return cut_masks(images, evidence, config.mask)
        return config.mask(evidence) > 0.5


def _averaged_evidence(model: nn.Module, layer: str, images: Tensor, config: SIBConfig) -> Tensor:
    shift = round(SHIFT * images.shape[-1])
    total, size = torch.zeros_like(images[:, :1]), (images.shape[2], images.shape[3])
    field = layer_field(model, layer, images, config.align)
    for mirrored in (False, True):
        for step in (0, shift):
            copy = images.roll((step, step), (2, 3))
            evidence = _evidence(model, layer, copy.flip(-1) if mirrored else copy, config)
            evidence = draw(evidence, size, field)
            total += (evidence.flip(-1) if mirrored else evidence).roll((-step, -step), (2, 3))
    return total


def _evidence(model: nn.Module, layer: str, images: Tensor, config: SIBConfig) -> Tensor:
    """Non-negative evidence (B, 1, h, w) of one layer; cotangents that name a class get the predicted one."""
    leaf = images.detach().requires_grad_()
    modules = {} if layer == "input" else {layer: resolve_layer(model, layer)}
    with torch.enable_grad(), record(model, modules, tokens=True) as activations:
        logits = model(leaf)
    point, size = activations.get(layer, leaf), (images.shape[2], images.shape[3])
    if config.mask_source == "class-evidence":
        return class_evidence(logits, point, size, config.evidence_cotangents)
    (vjp_map,) = differentiate(potential(logits, config.cotangent, logits.argmax(1)), [point])
    if layer == "input":
        return torch.linalg.vector_norm(vjp_map, dim=1, keepdim=True)
    return contribution(to_grid(vjp_map, size), to_grid(point, size)).abs().detach()
