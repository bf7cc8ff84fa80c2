"""The vector-Jacobian product R = J^T v: what backpropagation decodes a class vector into."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_choice, check_images, check_labels, check_logits, require

Cotangent = Literal["probability", "target", "ones"]


class VJP(NamedTuple):
    """Logits (B, K) and the VJP map (B, C, H, W) of one forward pass."""

    logits: Tensor
    map: Tensor


# Each potential is a scalar whose gradient with respect to the input is J^T v. Rows do not mix: it sums over images.
POTENTIALS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    # v = p against the Jacobian of p = softmax(z): the gradient of |p|^2 / 2.
    "probability": lambda z, _: z.softmax(1).square().sum() / 2,
    "log_probability": lambda z, y: _pick(z.log_softmax(1), y),
    # v = e_y against the Jacobian of the logits.
    "target": lambda z, y: _pick(z, y),
    "logit": lambda z, y: _pick(z, y),
    "centered_logit": lambda z, y: _pick(z - z.mean(1, keepdim=True), y),
    # v = 1 against the Jacobian of the logits; against that of p it would vanish, since p sums to 1.
    "ones": lambda z, _: z.sum(),
}
NEEDS_CLASS = ("log_probability", "target", "logit", "centered_logit")


def potential(logits: Tensor, cotangent: str, target: Tensor | None = None) -> Tensor:
    """Return the scalar whose gradient is the VJP with this cotangent.

    Args:
        logits: z, shape (B, K); p = softmax(z).
        cotangent: ``probability`` |p|^2 / 2 (v = p, the paper's R = J_p^T p); ``log_probability`` log p_y;
            ``target`` or ``logit`` z_y; ``centered_logit`` z_y - mean(z); ``ones`` sum(z).
        target: y, class indices (B,), for the cotangents that name a class.

    Raises:
        ValueError: unknown cotangent, or a class is needed and missing or out of range.
    """
    check_choice("cotangent", cotangent, tuple(POTENTIALS))
    if cotangent in NEEDS_CLASS:
        require(target is not None, "target", f"be given for cotangent={cotangent!r}", target)
        assert target is not None
        check_labels(target, logits, "target")
    return POTENTIALS[cotangent](logits, target)


def differentiate(scalar: Tensor, tensors: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of the scalar for each tensor, zeros for one that it does not depend on."""
    if not scalar.requires_grad:  # constant in all of them
        return tuple(torch.zeros_like(t) for t in tensors)
    return torch.autograd.grad(scalar, tensors, create_graph=create_graph, materialize_grads=True)


def vjp(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    cotangent: Cotangent = "probability",
    target: Tensor | None = None,
    create_graph: bool = False,
) -> VJP:
    """Compute R = J^T v with one forward and one backward pass.

    Args:
        forward_func: images (B, C, H, W) -> logits (B, K).
        images: floating point; neither it nor any ``.grad`` is changed.
        cotangent: v = p (``"probability"``, the paper), e_target (``"target"``) or 1 (``"ones"``). J is the Jacobian
            of the softmax probabilities for v = p and of the logits otherwise.
        target: class indices (B,) for ``"target"``.
        create_graph: keep R (and the logits) differentiable, for losses on R.

    Returns:
        VJP(logits (B, K), map (B, C, H, W)); detached unless ``create_graph``. R is signed, in units of the potential
        per unit of input. It is zero where the softmax is saturated (v = p), which says nothing about the image.

    Raises:
        ValueError: images that are not floating point (B, C, H, W), or an output that is not (B, K).

    Source: Shu, Meng, Luo, arXiv 2511.09239.
    """
    check_images(images)
    with torch.enable_grad():
        leaf = images if create_graph and images.requires_grad else images.detach().requires_grad_()
        logits = forward_func(leaf)
        check_logits(logits, len(images), "forward_func")
        (vjp_map,) = differentiate(potential(logits, cotangent, target), [leaf], create_graph=create_graph)
    return VJP(logits, vjp_map) if create_graph else VJP(logits.detach(), vjp_map.detach())


def _pick(scores: Tensor, target: Tensor | None) -> Tensor:
    assert target is not None
    return scores.gather(1, target.to(scores.device).long().unsqueeze(1)).sum()
