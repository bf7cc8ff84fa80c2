"""Criteria that a study names as ``module:function``."""

import torch
import torch.nn.functional as F


def weighted(logits, labels):
    """Binary cross-entropy in which a positive image counts three times."""
    return F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), pos_weight=torch.tensor(3.0))
