"""The part of the METRICS table that reads perturbation curves, all from one stream of perturbed images.

The curves that a metric looks at stay in the evidence: ``deletion`` (which is MoRF), ``insertion``, ``lerf``.
"""

from torch import Tensor

from sibx.metrics.base import Evidence, MetricSpec
from sibx.metrics.curve_scores import aopc, insertion_minus_deletion, normalized_deletion, normalized_insertion, srg
from sibx.metrics.perturbation import Curves

RANDOM_MAP = "that of the random map"


def _deletion(e: Evidence) -> Curves:
    return _keep(e, "deletion", e.perturbations.deletion())


def _insertion(e: Evidence) -> Curves:
    return _keep(e, "insertion", e.perturbations.insertion())


def _lerf(e: Evidence) -> Curves:
    return _keep(e, "lerf", e.perturbations.lerf())


def _keep(e: Evidence, name: str, curves: Curves) -> Curves:
    e.curves[name] = curves.fractions, curves.probabilities
    return curves


def _insertion_minus_deletion(e: Evidence) -> Tensor:
    e.perturbations.measure(("deletion", "mean"), ("insertion", "blur"))  # both in one stream
    return insertion_minus_deletion(_insertion(e), _deletion(e))


def _srg(e: Evidence) -> Tensor:
    e.perturbations.measure(("deletion", "mean"), ("insertion", "mean"))  # both in one stream
    return srg(_lerf(e), _deletion(e))


CURVE_METRICS: dict[str, MetricSpec] = {
    "deletion": MetricSpec(
        name="deletion",
        title="Deletion AUC",
        score=lambda e: _deletion(e).auc,
        higher_is_better=False,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Petsiuk 2018, arXiv 1806.07421",
    ),
    "insertion": MetricSpec(
        name="insertion",
        title="Insertion AUC",
        score=lambda e: _insertion(e).auc,
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Petsiuk 2018, arXiv 1806.07421",
    ),
    "normalized_deletion": MetricSpec(
        name="normalized_deletion",
        title="Normalized deletion AUC",
        score=lambda e: normalized_deletion(_deletion(e)),
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="deletion / clean probability",
    ),
    "normalized_insertion": MetricSpec(
        name="normalized_insertion",
        title="Normalized insertion AUC",
        score=lambda e: normalized_insertion(_insertion(e)),
        higher_is_better=True,
        bounds=(0.0, float("inf")),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="insertion / clean probability",
    ),
    "insertion_minus_deletion": MetricSpec(
        name="insertion_minus_deletion",
        title="Insertion - deletion",
        score=_insertion_minus_deletion,
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="of the two AUCs",
    ),
    "lerf": MetricSpec(
        name="lerf",
        title="LeRF AUC",
        score=lambda e: _lerf(e).auc,
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Samek 2017, arXiv 1509.06321",
    ),
    "srg": MetricSpec(
        name="srg",
        title="Symmetric relevance gain",
        score=_srg,
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        chance="0",
        needs_masks=False,
        needs_model=True,
        reference="Bluecher 2024, arXiv 2401.06654",
    ),
    "aopc": MetricSpec(
        name="aopc",
        title="AOPC",
        score=lambda e: aopc(_deletion(e)),
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Samek 2017, arXiv 1509.06321",
    ),
}
