"""Running methods and metrics over a data set, and what comes out."""

from sibx.evaluation._focus import focus
from sibx.evaluation._recommend import recommend
from sibx.evaluation.agreement import rank_correlations
from sibx.evaluation.chosen_threshold import choose_thresholds
from sibx.evaluation.columns import ACCURACY, CELL, CLASSIFIER
from sibx.evaluation.crossed import mean_over_seeds_and_images, p_value_over_seeds_and_images
from sibx.evaluation.gain import Gain, paired_gain
from sibx.evaluation.map_agreement import evaluate_agreement
from sibx.evaluation.method_ranks import Ranking, rank_methods
from sibx.evaluation.model_contrast import evaluate_contrast
from sibx.evaluation.multi_label import label_scores
from sibx.evaluation.over_sets import mean_over_sets
from sibx.evaluation.recommendation import Recommendation
from sibx.evaluation.reliance import evaluate_reliance, worst_group
from sibx.evaluation.results import Results
from sibx.evaluation.robustness import evaluate_robustness
from sibx.evaluation.runner import evaluate
from sibx.evaluation.scoring import heatmaps_of
from sibx.evaluation.significance import SignedRank, holm, wilcoxon_signed_rank
from sibx.evaluation.statistics import (
    Band,
    Interval,
    bootstrap_band,
    bootstrap_class_mean,
    bootstrap_difference,
    bootstrap_mean,
    mean_over_seeds,
)
from sibx.evaluation.strata import size_of

__all__ = [
    "ACCURACY",
    "CELL",
    "CLASSIFIER",
    "Band",
    "Gain",
    "Interval",
    "Ranking",
    "Recommendation",
    "Results",
    "SignedRank",
    "bootstrap_band",
    "bootstrap_class_mean",
    "bootstrap_difference",
    "bootstrap_mean",
    "choose_thresholds",
    "evaluate",
    "evaluate_agreement",
    "evaluate_contrast",
    "evaluate_reliance",
    "evaluate_robustness",
    "focus",
    "heatmaps_of",
    "holm",
    "label_scores",
    "mean_over_seeds",
    "mean_over_seeds_and_images",
    "mean_over_sets",
    "p_value_over_seeds_and_images",
    "paired_gain",
    "rank_correlations",
    "rank_methods",
    "recommend",
    "size_of",
    "wilcoxon_signed_rank",
    "worst_group",
]
