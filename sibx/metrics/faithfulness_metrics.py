"""The part of the METRICS table that asks the model about masked, imputed and perturbed images."""

from torch import Tensor

from sibx.metrics.base import Evidence, MetricSpec
from sibx.metrics.confidence import adcc, average_drop, average_gain, increase_in_confidence
from sibx.metrics.curve_metrics import RANDOM_MAP


def _adcc(e: Evidence) -> Tensor:
    explain = e.explained_again()
    return adcc(e.confidence, explain, e.images, e.heatmaps, e.targets, batch_size=e.batch_size)


FAITHFULNESS_METRICS: dict[str, MetricSpec] = {
    "average_drop": MetricSpec(
        name="average_drop",
        title="Average drop",
        score=lambda e: average_drop(e.confidence),
        higher_is_better=False,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Chattopadhay 2018, arXiv 1710.11063",
    ),
    "increase_in_confidence": MetricSpec(
        name="increase_in_confidence",
        title="Increase in confidence",
        score=lambda e: increase_in_confidence(e.confidence),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Chattopadhay 2018, arXiv 1710.11063",
    ),
    "average_gain": MetricSpec(
        name="average_gain",
        title="Average gain",
        score=lambda e: average_gain(e.confidence),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Zhang 2024, arXiv 2301.07002",
    ),
    "adcc": MetricSpec(
        name="adcc",
        title="ADCC",
        score=_adcc,
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Poppi 2021, arXiv 2104.10252",
    ),
}
