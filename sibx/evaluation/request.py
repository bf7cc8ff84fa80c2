"""What ``evaluate`` was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, check_integer, listed, require
from sibx._outputs import Output, check_output
from sibx.attribution import MethodSpec
from sibx.datasets.base import MaskedDataset, require_masks
from sibx.evaluation.alike import PARTLY
from sibx.evaluation.identified import given_labels, identify_model, name_of
from sibx.metrics import METRICS, AnyMetric, MetricSpec, to_metric
from sibx.models import Align
from sibx.runs.identity import identify_data

Target = Literal["predicted", "label"]


def target_for(data: MaskedDataset, target: Target | None) -> Target:
    """Return the class to explain; None = what the data has: the label of several, else the predicted one.

    Raises:
        ValueError: an unknown word, or ``predicted`` for several labels per image.
    """
    if target is None:
        return "label" if data.several_labels else "predicted"
    check_choice("target", target, get_args(Target))
    rule = "be 'label' (the default) for several labels per image, where every class present is explained"
    require(target == "label" or not data.several_labels, "target", rule, target)
    return target


def read_metrics(metrics: AnyMetric | Sequence[AnyMetric]) -> list[MetricSpec]:
    """Return the metrics that were asked for, one alone or several, with different names.

    Raises:
        ValueError: what ``to_metric`` refuses, no metric at all, or a name twice.
    """
    specs = [to_metric(m, argument="metrics") for m in listed(metrics)]
    names = [m.name for m in specs]
    require(len(set(names)) == len(names) > 0, "metrics", "name at least one and none twice", names)
    return specs


class Skipped(NamedTuple):
    """What an evaluation left out.

    Attributes:
        method: name of the method.
        metric: name of the metric; "" = all of them.
        reason: why.
    """

    method: str
    metric: str
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of ``evaluate``, resolved.

    Attributes:
        model: images -> logits (B, K).
        dataset: images with masks.
        methods: what explains them.
        metrics: what scores the explanations.
        target: the class explained.
        output: what the logits are.
        layer: layer that CAM methods look at.
        align: where CAMs draw the units of the layer; None = as the methods are built.
        batch_size: images per forward pass.
        workers: number of processes that read the images.
        device: where to compute.
        seed: seed of everything random.
        columns: the columns that hold one value in all rows: ``dataset``, ``split``, ``model``, ``training``.
        class_counts: numbers of classes of a model that fit the data's.
        class_map: name of a class -> outputs of the model, where they were given.
        found: what only the images showed, for ``run.json``.
        skipped: what is left out of it.
        partly: methods that reach a part of the model only, and what they miss.
    """

    model: Callable[[Tensor], Tensor]
    dataset: MaskedDataset
    methods: list[MethodSpec]
    metrics: list[MetricSpec]
    target: Target
    output: Output
    layer: nn.Module | str | None
    align: Align | None
    batch_size: int
    workers: int
    device: torch.device
    seed: int
    columns: dict[str, str]
    class_counts: tuple[int, ...]
    class_map: dict[str, list[int]]
    found: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    partly: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ValueError for what cannot be evaluated."""
        check_output(self.output)
        if self.align is not None:
            check_choice("align", self.align, get_args(Align))
        check_integer("batch_size", self.batch_size, 1)
        check_integer("workers", self.workers, 0)
        require(len(self.dataset) > 0, "dataset", "hold at least one image", len(self.dataset))
        require_masks(self.dataset, "metrics", [m.name for m in self.metrics if m.needs_masks])
        methods = [m.name for m in self.methods if m.needs_layer or m.needs_module]
        metrics = [m.name for m in self.metrics if m.needs_module]
        for argument, bound in (("methods", methods), ("metrics", metrics)):
            free = isinstance(self.model, nn.Module) or not bound
            require(free, argument, "need no module for a model that is not a torch.nn.Module", bound)

    def scores(self, method: MethodSpec, metric: MetricSpec) -> bool:
        """Whether the metric scores the method's maps."""
        return not any(s[:2] == (method.name, metric.name) for s in self.skipped)

    def batches(self) -> list[range]:
        """Return the images of every batch."""
        total, size = len(self.dataset), self.batch_size
        return [range(first, min(first + size, total)) for first in range(0, total, size)]

    def describe(self) -> dict[str, Any]:
        """Return what ``run.json`` says."""
        return {
            "methods": [s.name for s in self.methods],
            "metrics": [s.name for s in self.metrics],
            "target": self.target,
            "output": self.output,
            "align": self.align or "receptive_field",
            "batch_size": self.batch_size,
            "seed": self.seed,
            "device": str(self.device),
            "images": len(self.dataset),
            "class_map": self.class_map,
            "normalization": {k: list(v) for k, v in asdict(self.dataset.normalization).items()},  # as JSON has it
            "skipped": [s._asdict() for s in self.skipped],
            PARTLY: [{"method": name, "reason": reason} for name, reason in self.partly.items()],
            **self.columns,
            **self.found,
            "versions": {name: version(name) for name in ("sibx", "torch", "torchvision", "captum")},
        }

    def identify(self) -> dict[str, Any]:
        """Say which evaluation this is, in plain values by argument: whatever the scores depend on.

        Specs and functions of the caller's are known by their names only, and by the formulas of those that have one.
        """
        described = self.describe()
        known = {spec.name: spec.formula for spec in METRICS.values()}
        own = [spec for spec in self.metrics if spec.formula != known.get(spec.name, "")]
        same = ("methods", "metrics", "target", "output", "batch_size", "seed", "versions")
        return {
            **{name: described[name] for name in same},
            **{f"metrics.formula of {spec.name}": spec.formula for spec in own},
            "dataset": identify_data(self.dataset, self.device, self.workers),
            "labels": given_labels(self.columns, self.dataset),
            "model": identify_model(self.model),
            "layer": name_of(self.layer) if isinstance(self.layer, nn.Module) else self.layer,
            **({"class_map": self.class_map} if self.class_map else {}),
            **({"align": self.align} if self.align else {}),  # what was interrupted before there was a choice goes on
            "device": self.device.type,
        }
