"""The scalars whose gradients are the VJPs: the names of the cotangents, the same for maps and for losses."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_labels, require

Cotangent = Literal["probability", "log_probability", "logit", "centered_logit", "ones"]

# Cotangents that name a class: scores (B, K) from which that class is picked.
CLASS_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_probability": lambda z: z.log_softmax(1),
    "logit": lambda z: z,  # v = e_y with the Jacobian of the logits
    "centered_logit": lambda z: z - z.mean(1, keepdim=True),
}
# Cotangents of all classes: a scalar, which is a sum over images, so that images do not influence each other.
TOTALS: dict[str, Callable[[Tensor], Tensor]] = {
    # v = p with the Jacobian of p = softmax(z): the gradient of |p|^2 / 2.
    "probability": lambda z: z.softmax(1).square().sum() / 2,
    # v = 1 with the Jacobian of the logits; with the Jacobian of p the VJP would vanish, since p sums to 1.
    "ones": lambda z: z.sum(),
}


def potential(logits: Tensor, cotangent: Cotangent, target: Tensor | None = None) -> Tensor:
    """Return the scalar whose gradient is the VJP with this cotangent.

    Args:
        logits: logits z, shape (B, K); p = softmax(z).
        cotangent: which scalar, summed over images. ``probability``: |p|^2 / 2 (v = p, the paper's R = J_p^T p);
            ``log_probability``: log p_y; ``logit``: z_y; ``centered_logit``: z_y - mean(z); ``ones``: sum(z).
        target: class indices y, (B,); needed for the cotangents that name a class.

    Raises:
        ValueError: an unknown cotangent, or class indices that are needed and missing or out of range.
    """
    check_choice("cotangent", cotangent, (*CLASS_SCORES, *TOTALS))
    if cotangent in CLASS_SCORES:
        require(target is not None, "target", f"be given for cotangent={cotangent!r}", target)
        assert target is not None
        check_labels(target, logits, "target")
    return potential_of_checked(logits, cotangent, target)


def potential_of_checked(logits: Tensor, cotangent: Cotangent, target: Tensor | None) -> Tensor:
    """Return ``potential`` without checking the arguments: the checks wait for the device."""
    if cotangent in TOTALS:
        return TOTALS[cotangent](logits)
    assert target is not None
    scores = CLASS_SCORES[cotangent](logits)
    return scores.gather(1, target.to(scores.device).long().unsqueeze(1)).sum()


def differentiate(scalar: Tensor, tensors: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of the scalar for each tensor, zeros for a tensor that the scalar does not depend on."""
    if not scalar.requires_grad:  # constant in all of them
        return tuple(torch.zeros_like(t) for t in tensors)
    return torch.autograd.grad(scalar, tensors, create_graph=create_graph, materialize_grads=True)
