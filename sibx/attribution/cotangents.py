"""The scalars whose gradients are the VJPs, by the cotangent v."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_labels, require

Cotangent = Literal["probability", "target", "ones"]


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


def _pick(scores: Tensor, target: Tensor | None) -> Tensor:
    assert target is not None
    return scores.gather(1, target.to(scores.device).long().unsqueeze(1)).sum()
