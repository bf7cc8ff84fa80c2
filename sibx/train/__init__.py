"""Fine-tuning: a plain training loop for S-IB and guidance losses, its settings, and predictions."""

from sibx.train.callbacks import Callback, Epoch
from sibx.train.choice import Choice
from sibx.train.config import TrainConfig
from sibx.train.epochs import pareto
from sibx.train.loop import FineTuneResult, fine_tune
from sibx.train.predictions import accuracy, predict
from sibx.train.stages import fine_tune_as
from sibx.train.trainings import TRAININGS, TrainingSpec

__all__ = [
    "TRAININGS",
    "Callback",
    "Choice",
    "Epoch",
    "FineTuneResult",
    "TrainConfig",
    "TrainingSpec",
    "accuracy",
    "fine_tune",
    "fine_tune_as",
    "pareto",
    "predict",
]
