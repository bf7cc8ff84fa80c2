"""The length of each term's gradient, and scales that make these lengths follow the weights of the terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sibx._checks import check_integer
from sibx.runs.ranks import world_size

MOMENTUM = 0.9  # momentum of the running averages of gradient norms
LARGEST = 1e6  # largest scale: a term that is almost zero must not be scaled until its rounding errors train the model


@dataclass(frozen=True, slots=True)
class GradNorm:
    """Weights of terms as lengths of their gradients, in units of the length of the cross-entropy's gradient.

    Every S-IB term is scaled so that its gradient over the model's parameters is its weight times as long as the
    cross-entropy's (``GradientBalance`` has the rule). SIBLoss in train mode measures; its buffers hold the scales.

    Attributes:
        every: number of calls in train mode from one measurement to the next, at least 1. A measurement costs one more
            backward pass for the cross-entropy and for every term with a weight.

    Raises:
        ValueError: a number below 1.
    """

    every: int = 10

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1)

    def build(self, names: Sequence[str]) -> "GradientBalance":
        """Return what measures and scales the terms of these names, the cross-entropy first."""
        return GradientBalance(names, self.every)


def gradient_of(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return the gradient of a scalar of the global batch, all parameters in one row; the graph is kept.

    Every rank has to call it, and gets the same row; ``sibx.runs.ranks`` explains why the mean over ranks is right.
    """
    if not value.requires_grad or not parameters:
        return value.new_zeros(1)
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    flat = torch.cat([g.flatten() for g in gradients])
    if world_size() > 1:
        dist.all_reduce(flat)
    return flat / world_size()


def gradient_norm(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of the gradient of a scalar of the global batch, over all parameters; the graph is kept."""
    return gradient_of(value, parameters).norm()


class GradientBalance(nn.Module):
    """Scales that make the gradient of every term as long as its weight says.

    With ``n_t`` the running average of the norm of the gradient of term t, without its weight, over the model's
    parameters, and ``n`` that of the cross-entropy, the scale is ``s_t = n / n_t``, at most 1e6: ``w s_t T_t`` has a
    gradient of norm ``w n``. A measurement m changes an average by ``n <- 0.9 n + 0.1 m``; the first one sets it. A
    gradient that is zero or not finite is not counted, and the scale of a term without any measurement is 1. No
    gradient flows through scales.

    Args:
        names: names of the terms, the cross-entropy first.
        every: number of steps from one measurement to the next; a step is one call of the loss, and the first measures.

    The averages and the number of steps are buffers, so checkpoints carry them.

    Source: the idea of equal gradient norms is that of GradNorm (Chen et al. 2018, arXiv 1711.02257). The rule is ours:
    nothing is learned, training rates play no part, and norms are compared with the cross-entropy's.
    """

    norms: Tensor
    steps: Tensor

    def __init__(self, names: Sequence[str], every: int):
        super().__init__()
        self.names, self.every = tuple(names), every
        self.register_buffer("norms", torch.zeros(len(self.names)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def factors(
        self,
        values: Mapping[str, Tensor],
        weights: Mapping[str, float],
        parameters: Sequence[Tensor],
        *,
        fit: Tensor,
        learn: bool,
    ) -> dict[str, Tensor]:
        """Return the factor of every term, scalars without a gradient.

        Args:
            values: the terms' values without weights, in the graph, the cross-entropy's first; a missing one counts as
                zero.
            weights: the terms' weights; a term of weight 0 is not measured.
            parameters: what gradients are taken with respect to.
            fit: how far the labels are fitted, in [0, 1]; not used by this rule.
            learn: whether to count a step, and to measure if it is due.
        """
        if learn:
            if int(self.steps) % self.every == 0:
                self._update({k: gradient_norm(value, parameters) for k, value in values.items() if weights[k] > 0})
            self.steps += 1
        return self.scales()

    def _update(self, measured: Mapping[str, Tensor]) -> None:
        zero = self.norms.new_zeros(())
        new = torch.stack([measured.get(name, zero).to(self.norms) for name in self.names])
        averages = torch.where(self.norms > 0, MOMENTUM * self.norms + (1 - MOMENTUM) * new, new)
        self.norms.copy_(torch.where((new > 0) & new.isfinite(), averages, self.norms))

    def scales(self) -> dict[str, Tensor]:
        """Return the scale of every term."""
        measured = (self.norms > 0) & (self.norms[0] > 0)
        scales = torch.where(measured, (self.norms[0] / self.norms).clamp(max=LARGEST), 1.0)
        return dict(zip(self.names, scales, strict=True))
