"""Fine-tuning: a plain training loop for S-IB and guidance losses, its settings, and predictions."""

from sibx.train.config import TrainConfig
from sibx.train.loop import FineTuneResult, fine_tune
from sibx.train.predictions import accuracy, predict

__all__ = ["FineTuneResult", "TrainConfig", "accuracy", "fine_tune", "predict"]
