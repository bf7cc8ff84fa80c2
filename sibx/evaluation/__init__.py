"""Running methods and metrics over a data set, and what comes out."""

from sibx.evaluation.results import Results
from sibx.evaluation.runner import evaluate, heatmaps_of
from sibx.evaluation.statistics import Interval, bootstrap_difference, bootstrap_mean, mean_over_seeds

__all__ = [
    "Interval",
    "Results",
    "bootstrap_difference",
    "bootstrap_mean",
    "evaluate",
    "heatmaps_of",
    "mean_over_seeds",
]
