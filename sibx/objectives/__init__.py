"""S-IB for any training loop: the loss and its settings, own masks, and the losses to compare it with."""

from sibx._hsic import cka, hsic
from sibx.objectives.background import Contrast, Fraction, Variance
from sibx.objectives.balance import GradNorm
from sibx.objectives.config import SIBConfig
from sibx.objectives.evidence import class_evidence, contribution
from sibx.objectives.foreground import CKA, HSIC
from sibx.objectives.group_dro import GroupDROConfig, GroupDROLoss, GroupDROTerms
from sibx.objectives.guidance import GuidanceConfig, GuidanceLoss, GuidanceTerms
from sibx.objectives.guidance_table import GUIDANCE, GuidanceSpec
from sibx.objectives.masks import Frozen, Given, Online, Shuffled
from sibx.objectives.own_masks.frozen import each_self_masks, evidence_masks, self_masks
from sibx.objectives.own_masks.grab_cut import GrabCut
from sibx.objectives.own_masks.sufficient import SufficientShare
from sibx.objectives.share import Share
from sibx.objectives.sib import SIBLoss
from sibx.objectives.terms import LossTerms

__all__ = [
    "CKA",
    "GUIDANCE",
    "HSIC",
    "Contrast",
    "Fraction",
    "Frozen",
    "Given",
    "GrabCut",
    "GradNorm",
    "GroupDROConfig",
    "GroupDROLoss",
    "GroupDROTerms",
    "GuidanceConfig",
    "GuidanceLoss",
    "GuidanceSpec",
    "GuidanceTerms",
    "LossTerms",
    "Online",
    "SIBConfig",
    "SIBLoss",
    "Share",
    "Shuffled",
    "SufficientShare",
    "Variance",
    "cka",
    "class_evidence",
    "contribution",
    "each_self_masks",
    "evidence_masks",
    "hsic",
    "self_masks",
]
