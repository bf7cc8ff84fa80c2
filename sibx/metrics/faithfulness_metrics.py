"""The part of the METRICS table that asks the model about masked, imputed and perturbed images, or explains them."""

from torch import Tensor

from sibx.metrics.base import Evidence, MetricSpec
from sibx.metrics.confidence import adcc, average_drop, average_gain, increase_in_confidence
from sibx.metrics.curve_metrics import RANDOM_MAP
from sibx.metrics.infidelity import infidelity
from sibx.metrics.irof import irof, superpixels
from sibx.metrics.max_sensitivity import max_sensitivity
from sibx.metrics.road import Removal, road, road_lerf, road_morf
from sibx.metrics.sensitivity_n import sensitivity_n


def _adcc(e: Evidence) -> Tensor:
    explain = e.explained_again()
    return adcc(e.confidence, explain, e.images, e.heatmaps, e.targets, batch_size=e.batch_size)


def _removal(e: Evidence) -> Removal:
    """Return what all ROAD scores are read from, leave both curves in the evidence."""
    r = e.removal
    e.curves["road_morf"], e.curves["road_lerf"] = (r.shares, r.morf), (r.shares, r.lerf)
    return r


def _irof(e: Evidence) -> Tensor:
    segments = superpixels(e.images, e.normalization)
    return irof(e.model, e.images, e.heatmaps, e.targets, segments, batch_size=e.batch_size, seed=e.seed)


def _sensitivity_n(e: Evidence) -> Tensor:
    """Return the score, leave the correlation for every n in the evidence."""
    found = sensitivity_n(e.model, e.images, _signed(e), e.targets, batch_size=e.batch_size, seed=e.seed)
    e.curves["sensitivity_n"] = found.fractions, found.correlations
    return found.score


def _infidelity(e: Evidence) -> Tensor:
    return infidelity(e.model, e.images, _signed(e), e.targets, batch_size=e.batch_size, seed=e.seed)


def _max_sensitivity(e: Evidence) -> Tensor:
    explain = e.explained_again()
    return max_sensitivity(explain, e.images, e.heatmaps, e.targets, batch_size=e.batch_size, seed=e.seed)


def _signed(e: Evidence) -> Tensor:
    return e.heatmaps if e.attributions is None else e.attributions


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
    "road": MetricSpec(
        name="road",
        title="ROAD",
        score=lambda e: road(_removal(e)),
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        chance="0",
        needs_masks=False,
        needs_model=True,
        reference="Rong 2022, arXiv 2202.00449",
    ),
    "road_morf": MetricSpec(
        name="road_morf",
        title="ROAD, MoRF",
        score=lambda e: road_morf(_removal(e)),
        higher_is_better=False,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Rong 2022, arXiv 2202.00449",
    ),
    "road_lerf": MetricSpec(
        name="road_lerf",
        title="ROAD, LeRF",
        score=lambda e: road_lerf(_removal(e)),
        higher_is_better=True,
        bounds=(0.0, 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Rong 2022, arXiv 2202.00449",
    ),
    "irof": MetricSpec(
        name="irof",
        title="IROF",
        score=_irof,
        higher_is_better=True,
        bounds=(float("-inf"), 1.0),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Rieger 2020, arXiv 2003.08747",
    ),
    "sensitivity_n": MetricSpec(
        name="sensitivity_n",
        title="Sensitivity-n",
        score=_sensitivity_n,
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        chance="0",
        needs_masks=False,
        needs_model=True,
        reference="Ancona 2018, arXiv 1711.06104",
    ),
    "infidelity": MetricSpec(
        name="infidelity",
        title="Infidelity",
        score=_infidelity,
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        chance=RANDOM_MAP,
        needs_masks=False,
        needs_model=True,
        reference="Yeh 2019, arXiv 1901.09392",
    ),
    "max_sensitivity": MetricSpec(
        name="max_sensitivity",
        title="Max-sensitivity",
        score=_max_sensitivity,
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        chance="0 for a map that does not see the image",
        needs_masks=False,
        needs_model=True,
        reference="Yeh 2019, arXiv 1901.09392",
    ),
}
