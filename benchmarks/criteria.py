"""Criteria of the studies in ``studies/``, as their files name them."""

import torch
import torch.nn.functional as F
from torch import Tensor

FREE_PER_DEFECT = 106 / 392  # tiles in the subset that is at hand


def weigh_defects(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of one logit in which tiles with and without a defect weigh the same in all."""
    weight = torch.tensor(FREE_PER_DEFECT, device=logits.device, dtype=logits.dtype)
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype), pos_weight=weight)
