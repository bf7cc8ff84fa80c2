"""What the numbers of a model are: the one place where scores become classes, probabilities, losses and what is right.

Its public names are those of ``sibx.models``.
"""

from sibx._outputs.endings import warn_of_probabilities
from sibx._outputs.kinds import KINDS, Criterion, Kind, Output, by_class, check_output, kind_of, pick, probabilities
from sibx._outputs.rates import Rates, classification_rates
from sibx._outputs.right import hits, predicted, predicted_beside
from sibx._outputs.truth import check_truth, criterion_for, scores_for, usual_criterion
from sibx._outputs.weighting import Weights, check_weighting, weighting_of

__all__ = [
    "KINDS",
    "Criterion",
    "Kind",
    "Output",
    "Rates",
    "Weights",
    "by_class",
    "check_output",
    "check_truth",
    "check_weighting",
    "classification_rates",
    "criterion_for",
    "hits",
    "kind_of",
    "pick",
    "predicted",
    "predicted_beside",
    "probabilities",
    "scores_for",
    "usual_criterion",
    "warn_of_probabilities",
    "weighting_of",
]
