"""What of an evaluation can be done: methods that apply to the model, and metrics that apply to the methods."""

import warnings
from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from sibx._checks import require
from sibx.attribution.fitting import NO_MODULE, why_not
from sibx.datasets.base import collate
from sibx.evaluation.request import Request, Skipped

ONE_MODEL = "the method explains one model only, and the metric explains copies of it"


def fit(request: Request, everything: bool) -> Request:
    """Return the request without what cannot be done, which stands in ``skipped``; the model is in its place.

    Args:
        request: what was asked for.
        everything: whether all methods were asked for, instead of some by their names.

    Raises:
        ValueError: methods that were asked for by name and do not apply (all of them are named), or nothing is left.
    """
    if everything and not isinstance(request.model, nn.Module):
        bound = [s.name for s in request.methods if s.needs_layer or s.needs_module]
        request = _without(request, dict.fromkeys(bound, NO_MODULE))
    request.check()
    image = collate([request.dataset[0]]).images.to(request.device)
    reasons = why_not(request.methods, request.model, image, request.layer, request.output, wholly=True)
    if not everything:  # who reaches a part of the model is asked for by name, and stays
        doubtful = [s for s in request.methods if s.name in reasons]
        wrong = why_not(doubtful, request.model, image, request.layer, request.output)
        request = replace(request, partly={name: why for name, why in reasons.items() if name not in wrong})
        reasons = wrong
    if reasons and not everything:
        said = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
        raise ValueError(f"`methods` must apply to the model ('all' leaves out what does not), but got {said}")
    return _pairs(_without(request, reasons), everything)


def _without(request: Request, reasons: dict[str, str]) -> Request:
    left = [s for s in request.methods if s.name not in reasons]
    require(bool(left), "methods", "apply to the model", reasons)
    skipped = [Skipped(name, "", reason) for name, reason in reasons.items()]
    return replace(request, methods=left, skipped=[*request.skipped, *skipped])


def _pairs(request: Request, everything: bool) -> Request:
    """Note the scores that cannot be: of a method that explains one model only, and a metric that changes the model."""
    skipped = list(_impossible(request))
    request = replace(request, skipped=[*request.skipped, *skipped])
    left = [s for s in request.methods if any(request.scores(s, metric) for metric in request.metrics)]
    require(bool(left), "metrics", "apply to a method", [f"{s.metric}: {s.reason}" for s in skipped])
    if skipped and not everything:
        names = ", ".join(f"{s.metric} of {s.method}" for s in skipped)
        warnings.warn(f"evaluate leaves out {names}: {ONE_MODEL}", stacklevel=4)
    return replace(request, methods=left)


def _impossible(request: Request) -> Iterator[Skipped]:
    for spec in request.methods:
        if not spec.rebuilds:
            yield from (Skipped(spec.name, m.name, ONE_MODEL) for m in request.metrics if m.needs_module)
