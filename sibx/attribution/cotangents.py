"""The scalars whose gradients are the VJPs: one vocabulary of cotangents, for maps and for losses."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_labels, require

Cotangent = Literal["probability", "log_probability", "logit", "centered_logit", "ones"]

# Scores (B, K) of which the class that the cotangent names is picked.
CLASS_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_probability": lambda z: z.log_softmax(1),
    "logit": lambda z: z,  # v = e_y against the Jacobian of the logits
    "centered_logit": lambda z: z - z.mean(1, keepdim=True),
}
# Scalars of all classes. Rows do not mix: each is a sum over images.
TOTALS: dict[str, Callable[[Tensor], Tensor]] = {
    # v = p against the Jacobian of p = softmax(z): the gradient of |p|^2 / 2.
    "probability": lambda z: z.softmax(1).square().sum() / 2,
    # v = 1 against the Jacobian of the logits; against that of p it would vanish, since p sums to 1.
    "ones": lambda z: z.sum(),
}


def potential(logits: Tensor, cotangent: Cotangent, target: Tensor | None = None) -> Tensor:
    """Return the scalar whose gradient is the VJP with this cotangent.

    Args:
        logits: z, shape (B, K); p = softmax(z).
        cotangent: ``probability`` |p|^2 / 2 (v = p, the paper's R = J_p^T p); ``log_probability`` log p_y; ``logit``
            z_y; ``centered_logit`` z_y - mean(z); ``ones`` sum(z).
        target: y, class indices (B,), for the cotangents that name a class.

    Raises:
        ValueError: unknown cotangent, or a class is needed and missing or out of range.
    """
    check_choice("cotangent", cotangent, (*CLASS_SCORES, *TOTALS))
    if cotangent in TOTALS:
        return TOTALS[cotangent](logits)
    require(target is not None, "target", f"be given for cotangent={cotangent!r}", target)
    assert target is not None
    check_labels(target, logits, "target")
    scores = CLASS_SCORES[cotangent](logits)
    return scores.gather(1, target.to(scores.device).long().unsqueeze(1)).sum()


def differentiate(scalar: Tensor, tensors: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of the scalar for each tensor, zeros for one that it does not depend on."""
    if not scalar.requires_grad:  # constant in all of them
        return tuple(torch.zeros_like(t) for t in tensors)
    return torch.autograd.grad(scalar, tensors, create_graph=create_graph, materialize_grads=True)
