"""The scalars whose gradients are the VJPs: the names of the cotangents, the same for maps and for losses."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_labels, require
from sibx._outputs import Output, by_class, kind_of
from sibx._precise import precise
from sibx.models.differentiable import keep_way, twice_differentiable

Cotangent = Literal["probability", "log_probability", "logit", "centered_logit", "ones"]

# Probabilities are precise: the weights of the logits' gradients sum to 0 over classes, and those of a saturated
# softmax are as small as 1 - p, which float32 rounds at 1e-7. What all classes share would not cancel, and R would show
# it; after fine-tuning up to 40 % of the images are like that (docs/experiments/centered.md).

# Cotangents that name a class: (logits (B, K), what they are) -> scores (B, C) from which that class is picked.
CLASS_SCORES: dict[str, Callable[[Tensor, Output], Tensor]] = {
    "log_probability": lambda z, output: _log_probabilities(precise(z), output),
    "logit": by_class,  # v = e_y with the Jacobian of the logits
    "centered_logit": lambda z, output: _centered(by_class(z, output)),
}
# Cotangents of all classes: a scalar, which is a sum over images, so that images do not influence each other.
TOTALS: dict[str, Callable[[Tensor, Output], Tensor]] = {
    # v = p with the Jacobian of p, the softmax or the sigmoid of z: the gradient of |p|^2 / 2.
    "probability": lambda z, output: kind_of(z, output).probabilities(precise(z)).square().sum() / 2,
    # v = 1 with the Jacobian of the logits; with the Jacobian of a softmax the VJP would vanish, since p sums to 1.
    "ones": lambda z, _: z.sum(),
}


def potential(logits: Tensor, cotangent: Cotangent, target: Tensor | None = None, *, output: Output = "auto") -> Tensor:
    """Return the scalar whose gradient is the VJP with this cotangent; of probabilities in float64.

    Args:
        logits: logits z, shape (B, K); p = softmax(z), or the sigmoid of every logit.
        cotangent: which scalar, summed over images. ``probability``: |p|^2 / 2 (v = p, the paper's R = J_p^T p);
            ``log_probability``: log p_y; ``logit``: z_y; ``centered_logit``: z_y - mean(z); ``ones``: sum(z). A single
            logit z has the classes 0 and 1 with the logits -z and z.
        target: class indices y, (B,); needed for the cotangents that name a class.
        output: what the logits are, see ``sibx.models.Output``; for ``raw`` p is the logit itself.

    Raises:
        ValueError: an unknown cotangent, ``log_probability`` of ``raw`` scores, or class indices that are needed and
            missing or out of range.
    """
    check_choice("cotangent", cotangent, (*CLASS_SCORES, *TOTALS))
    if cotangent in CLASS_SCORES:
        require(target is not None, "target", f"be given for cotangent={cotangent!r}", target)
        assert target is not None
        check_labels(target, by_class(logits, output), "target")
    return potential_of_checked(logits, cotangent, target, output)


def potential_of_checked(
    logits: Tensor, cotangent: Cotangent, target: Tensor | None, output: Output = "auto"
) -> Tensor:
    """Return ``potential`` without checking the arguments: the checks wait for the device."""
    if cotangent in TOTALS:
        return TOTALS[cotangent](logits, output)
    assert target is not None
    scores = CLASS_SCORES[cotangent](logits, output)
    return scores.gather(1, target.to(scores.device).long().unsqueeze(1)).sum()


def _log_probabilities(logits: Tensor, output: Output) -> Tensor:
    kind = kind_of(logits, output)
    if kind.log_probabilities is None:
        raise ValueError("`cotangent` must not be 'log_probability' for output='raw', whose scores are no logits.")
    return kind.log_probabilities(kind.class_scores(logits))


def _centered(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


def differentiate(
    scalar: Tensor, tensors: Sequence[Tensor], *, create_graph: bool = False, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of the scalar for each tensor.

    Raises:
        ValueError: the scalar does not depend on one of the tensors: a map of zeros would look like a result.
    """
    gradients = _gradients(scalar, tensors, create_graph, create_graph or retain_graph)
    found = [g for g in gradients if g is not None]
    _require_path(len(found) == len(gradients))
    return tuple(found)


def differentiate_inputs(scalar: Tensor, inputs: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of the scalar for each input of a model, zeros for an input that the model does not use.

    Raises:
        ValueError: the scalar depends on none of the inputs.
    """
    gradients = _gradients(scalar, inputs, create_graph, create_graph)
    _require_path(any(g is not None for g in gradients))
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(gradients, inputs, strict=True))


def _gradients(scalar: Tensor, tensors: Sequence[Tensor], create_graph: bool, keep: bool) -> list[Tensor | None]:
    """Return the gradients, None where autograd knows no path from the scalar to the tensor."""
    reachable = [t for t in tensors if t.requires_grad] if scalar.requires_grad else []
    if not reachable:
        return [None] * len(tensors)
    with twice_differentiable() if create_graph else nullcontext():  # checkpointing runs parts of the model again
        gradients = torch.autograd.grad(
            scalar, reachable, retain_graph=keep, create_graph=create_graph, allow_unused=True
        )
    keep_way(*(g for g in gradients if g is not None))
    found = iter(gradients)
    return [next(found) if t.requires_grad else None for t in tensors]


def _require_path(condition: bool) -> None:
    if not condition:
        raise ValueError(
            "`model` must compute the score from what is explained, its inputs or its layer, in a way that gradients "
            "follow, but got a score that does not depend on it. Usual reasons: no_grad, inference_mode or detach in "
            "the forward pass, NumPy or integers in between, an exported or quantized model, a layer that only a side "
            "branch uses."
        )
