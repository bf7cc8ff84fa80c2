"""The S-IB terms together as a share of the cross-entropy's pull, and never against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sibx._checks import check_range
from sibx.objectives.balance import LARGEST, gradient_of

CROSS_ENTROPY = "cross_entropy"
STEPS = 105  # a pull that is bounded takes steps to move maps: docs/experiments/further_ahead.md


@dataclass(frozen=True, slots=True)
class Share:
    """Bounds the pull of all S-IB terms together by a share of the cross-entropy's, in every step.

    With ``g`` the gradient of the cross-entropy L over the model's parameters, ``h`` that of the weighted sum S of the
    S-IB terms, and ``fit = max(0, 1 - L / L_0)``, how far the labels of this batch are fitted (``L_0`` is the
    cross-entropy of logits that are all zero, log K: 0 = not better than that, 1 = perfectly), the total is

        ``(1 + r max(0, -cos(g, h))) L + r (|g| / |h|) S``,  with ``r = share * fit``.

    - Its S-IB part is ``r`` times as long as ``g``, whatever the terms' scales: weights of terms and layers only say
      how the terms divide this length among themselves. ``|g| / |h|`` is at most 1e6.
    - Where the S-IB terms would raise the cross-entropy (``cos < 0``), the first bracket takes that part of ``h`` away,
      so that a small step along the total never raises the cross-entropy of its batch more than a step along L would.
    - A network that does not fit its labels yet has no evidence to shape: its S-IB terms wait (``fit``).

    No gradient flows through the factors. Nothing is remembered from step to step. A call costs two backward passes
    more than the terms alone.

    Attributes:
        share: largest length of the S-IB gradient as a share of the cross-entropy's, at least 0.

    Raises:
        ValueError: a share below 0.

    Source: ours. Equal gradient norms: GradNorm (Chen et al. 2018, arXiv 1711.02257); removing what conflicts: PCGrad
    (Yu et al. 2020, arXiv 2001.06782).

    Example:
        >>> SIBConfig.recommended("given").balance
        Share(share=0.4)
    """

    share: float = 0.4

    def __post_init__(self) -> None:
        check_range("share", self.share, 0)

    def build(self, names: Sequence[str]) -> "Share":
        """Return what computes the factors of the terms of these names: itself."""
        return self

    def factors(
        self,
        values: Mapping[str, Tensor],
        weights: Mapping[str, float],
        parameters: Sequence[Tensor],
        *,
        fit: Tensor,
        learn: bool,
    ) -> dict[str, Tensor]:
        """Return the factor of every term, scalars without a gradient; the arguments are those of GradientBalance."""
        terms = [weights[name] * value for name, value in values.items() if name != CROSS_ENTROPY and weights[name] > 0]
        if not terms:
            return {}
        g, h = gradient_of(values[CROSS_ENTROPY], parameters), gradient_of(torch.stack(terms).sum(), parameters)
        pull, length = self.share * fit, h.norm()
        # A gradient that is zero or not finite pulls nowhere.
        ratio = torch.where((length > 0) & length.isfinite(), (g.norm() / length).clamp(max=LARGEST), 0.0)
        against = -torch.nn.functional.cosine_similarity(g, h, dim=0).nan_to_num().clamp(max=0)
        return {name: 1 + pull * against if name == CROSS_ENTROPY else pull * ratio for name in values}
