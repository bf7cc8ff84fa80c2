"""evaluate(): every method, every metric, every image."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sibx._checks import check_choice, check_logits, check_range, look_up, require
from sibx.attribution import Explainers, Method, MethodSpec, to_heatmap
from sibx.attribution.base import image_size
from sibx.attribution.many import attribute
from sibx.datasets.base import MaskedBatch, MaskedDataset, collate
from sibx.evaluation.methods import FromFunction, HeatmapFunction, Methods, resolve_methods
from sibx.evaluation.results import COLUMNS, CURVE_COLUMNS, Results
from sibx.metrics import METRICS, Evidence, MetricSpec
from sibx.models import eval_mode

Target = Literal["predicted", "label"]
Scores = dict[tuple[str, str], npt.NDArray[np.float64]]  # (method, metric) -> (B,)


def evaluate(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    *,
    methods: Methods,
    metrics: Sequence[str | MetricSpec],
    target: Target = "predicted",
    layer: nn.Module | str | None = None,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Results:
    """Explain every image with every method and score every explanation with every metric.

    A module runs in eval mode and is left in the mode it was in. The gradient CAMs among the methods share their
    passes. Scores do not depend on the batch size, up to the rounding of the model's own arithmetic.

    Args:
        model: images (B, C, H, W) -> logits (B, K): a module, or any function; then only methods that need no module.
        dataset: images with masks.
        methods: keys of METHODS, or specs of your own; or a mapping from names of your own to keys, specs or functions
            ``(images, targets (B,)) -> heatmaps (B, 1, H, W)``, at least 0.
        metrics: keys of METRICS, or specs of your own.
        target: the class explained: the ``predicted`` one or the ``label``.
        layer: for CAM methods; None = ``find_cam_layer(model)``.
        batch_size: images per forward pass.
        device: where to compute; None = where the model is, for a function the CPU.
        seed: of everything random.
        labels: values of the ``model`` and ``training`` columns (default empty).
        progress: whether to show a progress bar on stderr.

    Returns:
        Results with one row per image, method and metric, in this order. A score is NaN where it is undefined.

    Raises:
        ValueError: unknown or repeated names, an empty data set, a method that needs a module for a model that is none,
            a model whose output is not (B, K), or a function that does not return heatmaps.
    """
    run = _Run(
        model,
        dataset,
        resolve_methods(methods),
        [m if isinstance(m, MetricSpec) else look_up("metrics", m, METRICS) for m in metrics],
        target,
        batch_size,
        _pick_device(model, device),
        seed,
        {"dataset": dataset.name, "split": dataset.split, "model": "", "training": "", **(labels or {})},
    )
    run.check()
    start = time.perf_counter()
    with eval_mode(model.to(run.device)) if isinstance(model, nn.Module) else nullcontext():
        explainers = Explainers(model, run.methods, layer)
        batches = DataLoader(dataset, batch_size, collate_fn=collate)
        bar = tqdm(batches, desc=f"evaluate {dataset.split}", leave=False, disable=not progress)
        parts = [run.score(explainers, batch.to(run.device)) for batch in bar]
    rows, curves = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return Results(rows, curves, run.describe() | {"seconds": round(time.perf_counter() - start, 1)})


def heatmaps_of(spec: MethodSpec, method: Method, images: Tensor, targets: Tensor) -> Tensor:
    """Explain images (B, C, H, W) and return heatmaps (B, 1, H, W) by the spec's reduction."""
    return to_heatmap(attribute(spec, method, images, targets), image_size((images,)), spec.reduce)


@dataclass(frozen=True, slots=True)
class _Run:
    """What ``evaluate`` was asked for, resolved; ``columns`` are those that hold one value."""

    model: Callable[[Tensor], Tensor]
    dataset: MaskedDataset
    methods: list[MethodSpec]
    metrics: list[MetricSpec]
    target: Target
    batch_size: int
    device: torch.device
    seed: int
    columns: dict[str, str]

    def check(self) -> None:
        check_choice("target", self.target, ("predicted", "label"))
        check_range("batch_size", self.batch_size, 1)
        require(len(self.dataset) > 0, "dataset", "hold at least one image", len(self.dataset))
        names = [m.name for m in self.metrics]
        require(len(set(names)) == len(names) > 0, "metrics", "name at least one and none twice", names)
        bound = [m.name for m in self.methods if m.needs_layer or m.needs_module]
        free = isinstance(self.model, nn.Module) or not bound
        require(free, "methods", "need no module for a model that is not a torch.nn.Module", bound)
        bound = [m.name for m in self.metrics if m.needs_module]
        free = isinstance(self.model, nn.Module) or not bound
        require(free, "metrics", "need no module for a model that is not a torch.nn.Module", bound)

    def describe(self) -> dict[str, Any]:
        """Return what ``run.json`` says."""
        return {
            "methods": [s.name for s in self.methods],
            "metrics": [s.name for s in self.metrics],
            "target": self.target,
            "align": "receptive_field",
            "batch_size": self.batch_size,
            "seed": self.seed,
            "device": str(self.device),
            "images": len(self.dataset),
            **self.columns,
            "versions": {name: version(name) for name in ("sibx", "torch", "torchvision", "captum")},
        }

    def score(self, explainers: Explainers, batch: MaskedBatch) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows and the curve points of one batch."""
        images = _describe_images(self.model, batch, self.target).assign(seed=self.seed, **self.columns)
        targets = torch.from_numpy(images["target"].to_numpy(copy=True)).to(self.device)
        scores: Scores = {}
        curves: list[pd.DataFrame] = []
        for spec, attributions in explainers.explain(batch.images, targets):
            evidence = self._evidence(spec, attributions, explainers, batch, targets)
            for metric in self.metrics:
                scores[spec.name, metric.name] = metric.score(evidence).cpu().numpy()
            curves.extend(_curve_points(images.assign(method=spec.name), evidence))
        return _rows(images, scores), _by_image(curves)

    def _evidence(
        self, spec: MethodSpec, attributions: Tensor, explainers: Explainers, batch: MaskedBatch, targets: Tensor
    ) -> Evidence:
        size = image_size((batch.images,))
        method = explainers.methods[spec.name]
        return Evidence(
            heatmaps=to_heatmap(attributions, size, spec.reduce),
            masks=batch.masks,
            undefined=batch.undefined,
            images=batch.images,
            targets=targets,
            model=self.model,
            normalization=self.dataset.normalization,
            batch_size=self.batch_size,
            seed=self.seed,
            attributions=to_heatmap(attributions, size, "sum") if spec.signed else None,
            explain=partial(heatmaps_of, spec, method),
            # A function of the caller's may hold the model itself, and would explain that one instead of a copy.
            explain_with=None if isinstance(method, FromFunction) else partial(_explain_with, explainers, spec),
        )


def _explain_with(explainers: Explainers, spec: MethodSpec, model: nn.Module) -> HeatmapFunction:
    return partial(heatmaps_of, spec, explainers.rebuild(spec, model))


def _pick_device(model: Callable[[Tensor], Tensor], device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


def _describe_images(model: Callable[[Tensor], Tensor], batch: MaskedBatch, target: Target) -> pd.DataFrame:
    """One line per image: what it is, and what the model makes of it."""
    with torch.inference_mode():
        logits = model(batch.images)
        check_logits(logits, len(batch))
        confidence, predicted = logits.double().softmax(1).max(1)
    frame = pd.DataFrame(
        {
            "image_id": batch.ids,
            "label": batch.labels.cpu().numpy(),
            "predicted": predicted.cpu().numpy(),
            "confidence": confidence.cpu().numpy(),
            "group": batch.groups.cpu().numpy(),
        }
    )
    return frame.assign(target=frame[target])


def _rows(images: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """One row per image, method and metric, in this order, whatever the batch size."""
    methods, metrics = zip(*scores, strict=True)
    repeated = images.loc[images.index.repeat(len(scores))].reset_index(drop=True)
    values = np.stack(list(scores.values()), axis=1).flatten()
    names = {"method": np.tile(methods, len(images)), "metric": np.tile(metrics, len(images))}
    return repeated.assign(**names, value=values)[list(COLUMNS)]


def _curve_points(images: pd.DataFrame, evidence: Evidence) -> Iterator[pd.DataFrame]:
    """One row per image and point, for every curve; the index is the image's."""
    keys = [c for c in CURVE_COLUMNS if c not in ("curve", "x", "y")]
    for name, (x, y) in evidence.curves.items():
        points = images[keys].loc[images.index.repeat(len(x))]
        yield points.assign(curve=name, x=x.repeat(len(y)).cpu().numpy(), y=y.flatten().cpu().numpy())


def _by_image(curves: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the points in the order of image, method, curve, whatever the batch size."""
    if not curves:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(curves).sort_index(kind="stable")[list(CURVE_COLUMNS)].reset_index(drop=True)
