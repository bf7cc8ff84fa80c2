"""The scores of one batch: what a metric gets to see, and the two tables that come of it."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from sibx._checks import check_logits, require
from sibx._outputs import Output, by_class, predicted, predicted_beside, probabilities, warn_of_probabilities
from sibx._precise import precise
from sibx.attribution import Explainers, Method, MethodSpec, to_heatmap
from sibx.attribution.heatmaps import image_size
from sibx.attribution.many import attribute
from sibx.datasets.base import MaskedBatch
from sibx.evaluation.class_match import NO_ACCURACY, check_same_classes
from sibx.evaluation.columns import COLUMNS, CURVE_COLUMNS, NO_CLASS
from sibx.evaluation.request import Request, Target
from sibx.metrics import Explained, MetricSpec
from sibx.metrics.explained import Explain
from sibx.models.failures import say_why

Scores = dict[tuple[str, str], npt.NDArray[np.float64]]  # (method, metric) -> (B,)


def heatmaps_of(spec: MethodSpec, method: Method, images: Tensor, targets: Tensor) -> Tensor:
    """Explain images (B, C, H, W) and return heatmaps (B, 1, H, W) by the spec's reduction."""
    return to_heatmap(attribute(spec, method, images, targets), image_size((images,)), spec.reduce)


def score_batch(request: Request, explainers: Explainers, batch: MaskedBatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and the curve points of one batch."""
    images = describe_images(request.model, batch, request.target, request.output, request.class_counts)
    if request.output != "raw" and (images["predicted"] == NO_CLASS).any():
        request.found["no_accuracy"] = NO_ACCURACY
    images = images.assign(seed=request.seed, **request.columns)
    targets = torch.from_numpy(images["target"].to_numpy(copy=True)).to(request.device)
    scores: Scores = {}
    curves: list[pd.DataFrame] = []
    for spec, attributions in explainers.explain(batch.images, targets):
        explained = _explained(request, spec, attributions, explainers, batch, targets)
        for metric in (m for m in request.metrics if request.scores(spec, m)):
            scores[spec.name, metric.name] = _values(metric, explained)
        curves.extend(_curve_points(images.assign(method=spec.name), explained))
    return to_rows(images, scores), _by_image(curves)


def _explained(
    request: Request,
    spec: MethodSpec,
    attributions: Tensor,
    explainers: Explainers,
    batch: MaskedBatch,
    targets: Tensor,
) -> Explained:
    size = image_size((batch.images,))
    method = explainers.methods[spec.name]
    again = partial(_explain_with, explainers, spec) if spec.rebuilds else None
    return Explained(
        heatmaps=to_heatmap(attributions, size, spec.reduce),
        masks=batch.masks,
        undefined=batch.undefined,
        images=batch.images,
        targets=targets,
        model=request.model,
        normalization=request.dataset.normalization,
        output=request.output,
        batch_size=request.batch_size,
        seed=request.seed,
        method=spec.name,
        attributions=to_heatmap(attributions, size, "sum") if spec.signed else None,
        baseline=spec.baseline,
        layer=request.layer,
        explain=partial(heatmaps_of, spec, method),
        explain_with=again,
    )


def _explain_with(explainers: Explainers, spec: MethodSpec, model: nn.Module) -> Explain:
    return partial(heatmaps_of, spec, explainers.rebuild(spec, model))


def _values(metric: MetricSpec, explained: Explained) -> npt.NDArray[np.float64]:
    scores = metric.score(explained)
    expected = (len(explained.images),)
    good = isinstance(scores, Tensor) and tuple(scores.shape) == expected
    require(good, f"metrics[{metric.name!r}]", f"return a tensor of shape {expected}, one score per image", scores)
    return scores.detach().cpu().double().numpy()


def describe_images(
    model: Callable[[Tensor], Tensor], batch: MaskedBatch, target: Target, output: Output, counts: tuple[int, ...]
) -> pd.DataFrame:
    """One line per image: what it is, and what the model makes of it.

    Where the model has other classes than the data (``counts`` are the numbers that fit) nothing is predicted of them.
    """
    with torch.inference_mode(), say_why(model, batch.images):
        logits = model(batch.images)
        check_logits(logits, len(batch))
        warn_of_probabilities(logits, output)
        count = by_class(logits, output).shape[1]
        if target == "label" and output != "raw":
            check_same_classes(count, counts, "target")
        comparable = output != "raw" and count in counts
        chosen, found = predicted(logits, output), predicted_beside(logits, batch.labels, output)
        confidence = probabilities(logits, output).gather(1, found.unsqueeze(1)).squeeze(1)
        confidence = confidence.masked_fill(logits.isnan().any(1), torch.nan)
    frame = pd.DataFrame(
        {
            "image_id": batch.ids,
            "photo": batch.photos,
            "label": batch.labels.cpu().numpy(),
            "predicted": found.cpu().numpy() if comparable else NO_CLASS,
            "confidence": confidence.cpu().numpy(),
            "group": batch.groups.cpu().numpy(),
            "area": _area_shares(batch).cpu().numpy(),
        }
    )
    return frame.assign(target=chosen.cpu().numpy() if target == "predicted" else frame["label"])


def _area_shares(batch: MaskedBatch) -> Tensor:
    """Share of the pixels on the object, (B,) float64; undefined pixels do not count."""
    counted = ~batch.undefined
    return precise(batch.masks & counted).sum((1, 2, 3)) / precise(counted).sum((1, 2, 3))


def to_rows(images: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """One row per image, method and metric, in this order, whatever the batch size."""
    methods, metrics = zip(*scores, strict=True)
    repeated = images.loc[images.index.repeat(len(scores))].reset_index(drop=True)
    values = np.stack(list(scores.values()), axis=1).flatten()
    names = {"method": np.tile(methods, len(images)), "metric": np.tile(metrics, len(images))}
    return repeated.assign(**names, value=values)[list(COLUMNS)]


def _curve_points(images: pd.DataFrame, explained: Explained) -> Iterator[pd.DataFrame]:
    """One row per image and point, for every curve; the index is the image's."""
    keys = [c for c in CURVE_COLUMNS if c not in ("curve", "x", "y")]
    for name, (x, y) in explained.curves.items():
        points = images[keys].loc[images.index.repeat(len(x))]
        yield points.assign(curve=name, x=x.repeat(len(y)).cpu().numpy(), y=y.flatten().cpu().numpy())


def _by_image(curves: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the points in the order of image, method, curve, whatever the batch size."""
    if not curves:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(curves).sort_index(kind="stable")[list(CURVE_COLUMNS)].reset_index(drop=True)
