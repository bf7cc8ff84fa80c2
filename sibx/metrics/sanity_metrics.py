"""The part of the METRICS table that explains again: with other parameters, or another class."""

from collections.abc import Callable

from torch import Tensor, nn

from sibx.metrics.base import Evidence, Explain, MetricSpec
from sibx.metrics.random_logit import random_logit
from sibx.metrics.randomization import complexity_rise, randomization

STAGES = 10  # of the cascade: what a table costs should not grow with the depth of the network


def _randomize(e: Evidence) -> Tensor:
    """Return the score, leave the similarity at every stage in the evidence."""
    model, explain_with = _rebuildable(e)
    found = randomization(model, explain_with, e.images, e.heatmaps, e.targets, stages=STAGES, seed=e.seed)
    e.curves["randomization"] = found.fractions, found.similarities
    return found.score


def _rise(e: Evidence) -> Tensor:
    return complexity_rise(*_rebuildable(e), e.images, e.heatmaps, e.targets, seed=e.seed)


def _rebuildable(e: Evidence) -> tuple[nn.Module, Callable[[nn.Module], Explain]]:
    if not isinstance(e.model, nn.Module) or e.explain_with is None:
        raise ValueError(
            "`explain_with` must be given, and the model be a torch.nn.Module: the metric explains copies of the model "
            "with other parameters, which methods of METHODS and specs can do and functions of your own cannot."
        )
    return e.model, e.explain_with


def _other_class(e: Evidence) -> Tensor:
    return random_logit(e.model, e.explained_again(), e.images, e.heatmaps, e.targets, seed=e.seed)


SANITY_METRICS: dict[str, MetricSpec] = {
    "randomization": MetricSpec(
        name="randomization",
        title="Parameter randomization",
        score=_randomize,
        higher_is_better=False,
        bounds=(-1.0, 1.0),
        chance="1 for a map that does not see the parameters",
        needs_masks=False,
        needs_model=True,
        reference="Adebayo 2018, arXiv 1810.03292",
        needs_module=True,
    ),
    "complexity_rise": MetricSpec(
        name="complexity_rise",
        title="Rise of complexity (eMPRT)",
        score=_rise,
        higher_is_better=True,
        bounds=(-1.0, float("inf")),
        chance="0 for a map that does not see the parameters",
        needs_masks=False,
        needs_model=True,
        reference="Hedstroem 2024, arXiv 2401.06465",
        needs_module=True,
    ),
    "random_logit": MetricSpec(
        name="random_logit",
        title="Random logit",
        score=_other_class,
        higher_is_better=False,
        bounds=(-1.0, 1.0),
        chance="1 for a map that does not see the class",
        needs_masks=False,
        needs_model=True,
        reference="Sixt 2020, arXiv 1912.09818",
    ),
}
