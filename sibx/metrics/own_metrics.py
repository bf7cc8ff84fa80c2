"""Metrics of one's own in the form of a MetricSpec: a function of what it asks for by name, or ``module:name``."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from sibx._checks import look_up, require
from sibx._imported import imported
from sibx.metrics.explained import Explained
from sibx.metrics.spec import MetricSpec

AnyMetric = str | MetricSpec | Callable[..., Tensor]
# What a function may ask for: fields of Explained.
PARTS = (
    *("heatmaps", "masks", "undefined", "images", "targets", "model", "normalization", "output", "batch_size", "seed"),
    *("method", "attributions", "explain"),
)
RULE = (
    "be a key of METRICS, module:name, a MetricSpec (which says title, direction, range and chance too), or a function "
    "(heatmaps, masks) -> (B,) of any of " + ", ".join(PARTS)
)


def read_metric(table: Mapping[str, MetricSpec], metric: Any, name: str | None, argument: str) -> MetricSpec:
    """Return what ``sibx.metrics.to_metric`` says; the METRICS table is handed in."""
    if isinstance(metric, str) and ":" in metric:
        label, metric = metric.rpartition(":")[2], imported(argument, metric)
        name = name or (metric.name if isinstance(metric, MetricSpec) else label)
    if isinstance(metric, str):
        metric = look_up(argument, metric, table)
    if isinstance(metric, MetricSpec):
        return metric if name in (None, metric.name) else replace(metric, name=str(name))
    require(callable(metric) and not isinstance(metric, type), argument, RULE, metric)
    return of_function(metric, name or str(getattr(metric, "__name__", type(metric).__name__)).strip("<>"), argument)


def of_function(function: Callable[..., Tensor], name: str, argument: str = "metric") -> MetricSpec:
    """Return the MetricSpec of a function that asks for parts of what was explained by its arguments' names."""
    parameters = list(inspect.signature(function).parameters.values())
    asked = [p.name for p in parameters if p.name in PARTS and p.kind is not p.POSITIONAL_ONLY]
    stray = [p.name for p in parameters if p.name not in asked and p.default is p.empty]
    require(bool(asked) and not stray, argument, RULE, f"{name}({', '.join(p.name for p in parameters)})")

    def score(explained: Explained) -> Tensor:
        return function(**{part: getattr(explained, part) for part in asked})

    return MetricSpec(
        name=name,
        title=name,
        formula="a function of the caller's",
        score=score,
        higher_is_better=None,
        needs_masks="masks" in asked,
        needs_model=bool({"model", "explain"} & set(asked)),
    )
