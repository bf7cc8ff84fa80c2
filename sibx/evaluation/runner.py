"""evaluate(): every method, every metric, every image."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sibx._checks import check_choice, check_logits, check_range, look_up, require
from sibx.attribution import METHODS, Method, MethodSpec, build_method, to_heatmap
from sibx.datasets.base import MaskedBatch, MaskedDataset, collate
from sibx.evaluation.results import COLUMNS, CURVE_COLUMNS, Results
from sibx.metrics import METRICS, Evidence, MetricSpec
from sibx.models import eval_mode

Target = Literal["predicted", "label"]


def evaluate(
    model: nn.Module,
    dataset: MaskedDataset,
    *,
    methods: Sequence[str | MethodSpec],
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

    The model runs in eval mode and is left in the mode it was in. Scores do not depend on the batch size.

    Args:
        model: images -> logits (B, K).
        dataset: images with masks.
        methods: keys of METHODS, or specs of your own.
        metrics: keys of METRICS, or specs of your own.
        target: the class explained: the ``predicted`` one or the ``label``.
        layer: for CAM methods; None = ``find_cam_layer(model)``.
        batch_size: images per forward pass.
        device: where to compute; None = where the model is.
        seed: of everything random.
        labels: values of the ``model`` and ``training`` columns (default empty).
        progress: whether to show a progress bar on stderr.

    Returns:
        Results with one row per image, method and metric. A score is NaN where it is undefined.

    Raises:
        ValueError: unknown or repeated names, an empty data set, or a model whose output is not (B, K).
    """
    chosen = [m if isinstance(m, MethodSpec) else look_up("methods", m, METHODS) for m in methods]
    scored = [m if isinstance(m, MetricSpec) else look_up("metrics", m, METRICS) for m in metrics]
    _check_request(dataset, chosen, scored, target, batch_size)
    constants = {
        "dataset": dataset.name,
        "split": dataset.split,
        "model": "",
        "training": "",
        **(labels or {}),
    }
    device = torch.device(device) if device is not None else next(model.parameters()).device
    start = time.perf_counter()
    rows: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    with eval_mode(model.to(device)):
        built = [(spec, build_method(spec, model, layer)) for spec in chosen]
        batches = DataLoader(dataset, batch_size, collate_fn=collate)
        for loaded in tqdm(batches, desc=f"evaluate {dataset.split}", leave=False, disable=not progress):
            batch = loaded.to(device)
            image_rows, confidence = _describe(model, batch, target)
            image_rows = image_rows.assign(confidence=confidence, seed=seed, **constants)
            targets = torch.from_numpy(image_rows["target"].to_numpy(copy=True)).to(device)
            for spec, method in built:
                evidence = _explain(spec, method, model, batch, targets, dataset, batch_size, seed)
                for metric in scored:
                    value = metric.score(evidence).cpu().numpy()
                    rows.append(image_rows.assign(method=spec.name, metric=metric.name, value=value))
                curves.extend(_curve_rows(image_rows.assign(method=spec.name), evidence))
    info = {
        "methods": [s.name for s in chosen],
        "metrics": [s.name for s in scored],
        "target": target,
        "align": "receptive_field",
        "batch_size": batch_size,
        "seed": seed,
        "device": str(device),
        "seconds": round(time.perf_counter() - start, 1),
        "images": len(dataset),
        **constants,
        "versions": {name: version(name) for name in ("sibx", "torch", "torchvision", "captum")},
    }
    empty = pd.DataFrame(columns=list(CURVE_COLUMNS))
    return Results(
        pd.concat(rows, ignore_index=True)[list(COLUMNS)],
        pd.concat(curves, ignore_index=True)[list(CURVE_COLUMNS)] if curves else empty,
        info,
    )


def heatmaps_of(spec: MethodSpec, method: Method, images: Tensor, targets: Tensor) -> Tensor:
    """Explain images (B, C, H, W) and return heatmaps (B, 1, H, W) by the spec's reduction."""
    return to_heatmap(_attributions_of(spec, method, images, targets), _size(images), spec.reduce)


def _attributions_of(spec: MethodSpec, method: Method, images: Tensor, targets: Tensor) -> Tensor:
    options = {"target": targets} if spec.uses_target else {}
    return method.attribute(images, **options)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _check_request(
    dataset: MaskedDataset, methods: list[MethodSpec], metrics: list[MetricSpec], target: str, batch_size: int
) -> None:
    check_choice("target", target, ("predicted", "label"))
    check_range("batch_size", batch_size, 1)
    require(len(dataset) > 0, "dataset", "hold at least one image", len(dataset))
    for argument, names in (("methods", [m.name for m in methods]), ("metrics", [m.name for m in metrics])):
        require(len(set(names)) == len(names) > 0, argument, "name at least one and none twice", names)


def _describe(model: nn.Module, batch: MaskedBatch, target: Target) -> tuple[pd.DataFrame, Any]:
    """One row per image, and the probability of the predicted class."""
    with torch.inference_mode():
        logits = model(batch.images)
        check_logits(logits, len(batch))
        confidence, predicted = logits.double().softmax(1).max(1)
    frame = pd.DataFrame(
        {
            "image_id": batch.ids,
            "label": batch.labels.cpu().numpy(),
            "predicted": predicted.cpu().numpy(),
            "group": batch.groups.cpu().numpy(),
        }
    )
    frame["target"] = frame[target]
    return frame, confidence.cpu().numpy()


def _explain(
    spec: MethodSpec,
    method: Method,
    model: nn.Module,
    batch: MaskedBatch,
    targets: Tensor,
    dataset: MaskedDataset,
    batch_size: int,
    seed: int,
) -> Evidence:
    attributions = _attributions_of(spec, method, batch.images, targets)
    return Evidence(
        heatmaps=to_heatmap(attributions, _size(batch.images), spec.reduce),
        masks=batch.masks,
        undefined=batch.undefined,
        images=batch.images,
        targets=targets,
        model=model,
        normalization=dataset.normalization,
        batch_size=batch_size,
        seed=seed,
        attributions=to_heatmap(attributions, _size(batch.images), "sum") if spec.signed else None,
        explain=partial(heatmaps_of, spec, method),
    )


def _curve_rows(image_rows: pd.DataFrame, evidence: Evidence) -> Iterator[pd.DataFrame]:
    keys = [c for c in CURVE_COLUMNS if c not in ("curve", "x", "y")]
    for name, (x, y) in evidence.curves.items():
        points = image_rows[keys].loc[image_rows.index.repeat(len(x))].reset_index(drop=True)
        yield points.assign(curve=name, x=x.repeat(len(y)).cpu().numpy(), y=y.flatten().cpu().numpy())
