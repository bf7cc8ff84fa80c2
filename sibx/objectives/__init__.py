"""S-IB itself, for any training loop: the loss and its settings, own masks, and guidance losses to compare it with."""

from sibx.objectives._hsic import cka, hsic
from sibx.objectives.config import SIBConfig
from sibx.objectives.guidance import GuidanceConfig, GuidanceLoss, GuidanceTerms
from sibx.objectives.own_masks.evidence import class_evidence, contribution, evidence_masks, self_masks
from sibx.objectives.own_masks.grab_cut import GrabCut
from sibx.objectives.own_masks.sufficient import SufficientShare
from sibx.objectives.sib import SIBLoss
from sibx.objectives.terms import LossTerms

__all__ = [
    "GrabCut",
    "GuidanceConfig",
    "GuidanceLoss",
    "GuidanceTerms",
    "LossTerms",
    "SIBConfig",
    "SIBLoss",
    "SufficientShare",
    "cka",
    "class_evidence",
    "contribution",
    "evidence_masks",
    "hsic",
    "self_masks",
]
