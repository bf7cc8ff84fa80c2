"""The vector-Jacobian product R = J^T v: the image-shaped map that backpropagation makes of a class vector v."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_images, check_logits
from sibx._outputs import Output
from sibx.attribution.cotangents import Cotangent, differentiate, potential
from sibx.models.differentiable import keep_way, twice_differentiable


class VJP(NamedTuple):
    """Logits (B, K) and the VJP map (B, C, H, W) of one forward pass."""

    logits: Tensor
    map: Tensor


def vjp(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    cotangent: Cotangent = "probability",
    target: Tensor | None = None,
    output: Output = "auto",
    create_graph: bool = False,
) -> VJP:
    """Compute R = J^T v with one forward and one backward pass.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to logits (B, K).
        images: images (B, C, H, W), floating point; neither the tensor nor any ``.grad`` is changed.
        cotangent: which v. ``"probability"``: v = p, the paper's R = J_p^T p with the Jacobian of the softmax or,
            by ``output``, of the sigmoids. The others make R a gradient:
            ``"logit"`` of the target's logit, ``"log_probability"`` of its log-probability,
            ``"centered_logit"`` of its logit minus the mean of all logits, ``"ones"`` of the sum of all logits.
        target: class indices (B,), 0 and 1 for a single logit; needed for the cotangents that name a class.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.
        create_graph: whether R and the logits stay differentiable, for losses on R.

    Returns:
        VJP(logits (B, K), map (B, C, H, W)); detached unless ``create_graph``. R is signed, in units of the potential
        per unit of input. Probabilities are computed in float64, where the device has it. With v = p R is zero where
        the softmax is saturated even so; that says nothing about the image.

    Raises:
        ValueError: images that are not floating point (B, C, H, W), or an output that is not (B, K).

    Example:
        >>> images, weights = torch.ones(1, 1, 1, 2), torch.tensor([2.0, 3.0])
        >>> vjp(lambda x: x.flatten(1) * weights, images, cotangent="ones")
        VJP(logits=tensor([[2., 3.]]), map=tensor([[[[2., 3.]]]]))

    Source: Shu, Meng, Luo, arXiv 2511.09239.
    """
    check_images(images)
    with torch.enable_grad(), twice_differentiable() if create_graph else nullcontext():
        leaf = images if create_graph and images.requires_grad else images.detach().requires_grad_()
        logits = forward_func(leaf)
        check_logits(logits, len(images), "forward_func")
        scalar = potential(logits, cotangent, target, output=output)
        (vjp_map,) = differentiate(scalar, [leaf], create_graph=create_graph)
    if not create_graph:
        return VJP(logits.detach(), vjp_map.detach())
    keep_way(logits)
    return VJP(logits, vjp_map)
