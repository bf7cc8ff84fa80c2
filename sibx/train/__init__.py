"""S-IB fine-tuning: the loss, guidance losses to compare it with, their settings, and a plain training loop."""

from sibx.train.config import SIBConfig
from sibx.train.distributed import gather_rows
from sibx.train.evidence import class_evidence, contribution, evidence_masks, self_masks
from sibx.train.grab_cut import GrabCut
from sibx.train.guidance import GuidanceConfig, GuidanceLoss, GuidanceTerms
from sibx.train.hsic import cka, hsic
from sibx.train.loop import FineTuneResult, fine_tune
from sibx.train.objective import SIBLoss
from sibx.train.scoring import accuracy, predict
from sibx.train.sufficient import SufficientShare
from sibx.train.terms import LossTerms
from sibx.train.train_config import TrainConfig

__all__ = [
    "FineTuneResult",
    "GrabCut",
    "GuidanceConfig",
    "GuidanceLoss",
    "GuidanceTerms",
    "LossTerms",
    "SIBConfig",
    "SIBLoss",
    "SufficientShare",
    "TrainConfig",
    "accuracy",
    "cka",
    "class_evidence",
    "contribution",
    "evidence_masks",
    "fine_tune",
    "gather_rows",
    "hsic",
    "predict",
    "self_masks",
]
