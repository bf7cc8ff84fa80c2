"""Relative stability: does the heatmap change more than what it explains: the image, the scores, the features?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_case, check_explained, check_integer, check_logits, require
from sibx._outputs import Output, predicted
from sibx._precise import precise
from sibx.metrics.explained import Explain, Explained
from sibx.metrics.faithfulness.nearby import RADIUS, SAMPLES, Nearby, remembered
from sibx.metrics.frames import orders_pixels
from sibx.metrics.probability import Model
from sibx.metrics.spec import MetricSpec
from sibx.models.failures import say_why
from sibx.models.finding import resolve_layer
from sibx.models.layers import record

EPSILON = 1e-6  # of the paper; nothing is divided by less, and no change that small is one


class RelativeStability(NamedTuple):
    """How many times as much as something else the heatmap changes, at most, near every image.

    Attributes:
        input: (B,) float64, by the relative change of the image.
        output: (B,) float64, by the change of the logits.
        representation: (B,) float64, by the relative change of a layer's output; NaN for a model without
            layers, such as a function.
    """

    input: Tensor
    output: Tensor
    representation: Tensor


class _Seen(NamedTuple):
    """What a model makes of N images: logits (N, K) float64, a layer's output (N, D) float64, predictions (N,)."""

    logits: Tensor
    features: Tensor
    classes: Tensor


def relative_stability(
    model: Model,
    explain: Explain,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module | str | None = None,
    radius: float = RADIUS,
    samples: int = SAMPLES,
    output: Output = "auto",
    batch_size: int = 64,
    seed: int = 0,
) -> RelativeStability:
    """Measure what ``relative_input_stability``, ``..._output_...`` and ``..._representation_...`` are read from.

    The random images y, and so their heatmaps, are those of ``max_sensitivity``: within ``radius`` of the image in
    every value. With d(a, b) the Euclidean norm of (b - a) / a, value by value, the scores are the maxima over y of
    d(a(x), a(y)) over d(x, y), over |z(x) - z(y)| for the logits z, and over d(L(x), L(y)) for a layer's output L.
    Values |a| below 1e-6 count as 1e-6, of heatmaps after division by the maximum of a(x). Left out are images y of
    another predicted class, and those for which what is divided by is not above 1e-6. ``samples`` explanations and
    forward passes per image, and one more pass.

    Args:
        model: images -> logits (B, K).
        explain: (images, targets) -> heatmaps, by the method that made these.
        images: x, (B, C, H, W), normalized.
        heatmaps: a(x), (B, 1, H, W), at least 0.
        targets: (B,) the class explained, the same for all y.
        layer: layer whose output is the representation, its name or the module; None = ``find_cam_layer``.
        radius: above 0, in units of the normalized image.
        samples: random images y, at least 1.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: largest number of images in one pass, all of them near one x.
        seed: seed of the random y, which depend on it and the image's values.

    Returns:
        RelativeStability; NaN where the heatmap is zero everywhere or not finite, that of a y is not finite, or all
        images y are left out.

    Raises:
        ValueError: a wrong shape, dtype or range, ``explain`` that does not give heatmaps, or an unknown layer.

    Source: Agarwal et al., arXiv 2203.06877. Heatmaps, at least 0, take the place of signed attributions.
    """
    check_case(images, heatmaps, targets)
    require(radius > 0, "radius", "be above 0", radius)
    check_integer("samples", samples, 1)
    check_integer("batch_size", batch_size, 1)
    module = _layer(model, layer, images) if len(images) else None
    found = torch.full((3, len(images)), torch.nan, dtype=torch.float64)
    for row in orders_pixels(heatmaps).nonzero()[:, 0].tolist():
        x, a, t = images[row : row + 1].detach(), heatmaps[row : row + 1].detach(), targets[row : row + 1]
        near = Nearby(x, radius, seed)
        parts = [near.move(part) for part in x.expand(samples, -1, -1, -1).split(batch_size)]
        maps = torch.cat([_explained(explain, part, t) for part in parts])
        seen = [_look(model, part, module, output) for part in (x, *parts)]
        found[:, row] = _largest(a, maps.to(a), x, torch.cat(parts), _Seen(*map(torch.cat, zip(*seen, strict=True))))
    return RelativeStability(*found)


def _layer(model: Model, layer: nn.Module | str | None, images: Tensor) -> nn.Module | None:
    """Return the layer that was asked for; of a model in which none can be found, None."""
    if not isinstance(model, nn.Module):
        return None
    with torch.no_grad(), say_why(model, images):
        model(images[:1])  # which tells images that the model does not take from layers that it does not have
    try:
        return resolve_layer(model, layer, images[:1])
    except ValueError:
        if layer is not None:
            raise
        return None


def _explained(explain: Explain, images: Tensor, target: Tensor) -> Tensor:
    with torch.enable_grad():
        return check_explained(explain(images, target.expand(len(images))), images).detach()


def _look(model: Model, images: Tensor, layer: nn.Module | None, output: Output) -> _Seen:
    with torch.no_grad(), say_why(model, images):
        if layer is None or not isinstance(model, nn.Module):
            logits, features = model(images), images.new_empty(len(images), 0)
        else:
            with record(model, {"layer": layer}, tokens=True) as outputs:
                logits = model(images)
            features = outputs["layer"].flatten(1)
    check_logits(logits, len(images))
    return _Seen(precise(logits), precise(features), predicted(logits, output))


def _largest(heatmap: Tensor, maps: Tensor, image: Tensor, near: Tensor, seen: _Seen) -> Tensor:
    """Return the three scores of one image from N near ones; ``seen`` is of the image itself first, (3,)."""
    peak = precise(heatmap).max()
    change = _relative(precise(heatmap).flatten(1) / peak, precise(maps).flatten(1) / peak).to("cpu")
    others = (
        _relative(precise(image).flatten(1), precise(near).flatten(1)),
        (seen.logits[1:] - seen.logits[:1]).norm(dim=1),
        _relative(seen.features[:1], seen.features[1:]),
    )
    divisors = torch.stack([other.to("cpu") for other in others])  # (3, N)
    counts = (divisors > EPSILON) & (seen.classes[1:] == seen.classes[0]).to("cpu")
    scores = (change / divisors).masked_fill(~counts, -torch.inf).amax(1)
    return scores.masked_fill(~(scores.isfinite() & change.isfinite().all()), torch.nan)


def _relative(first: Tensor, others: Tensor) -> Tensor:
    """Norm (N,) of the changes from (1, D) to each of (N, D), value by value as shares of the first."""
    return ((others - first) / first.abs().clamp(min=EPSILON)).norm(dim=1)


def relative_input_stability(r: RelativeStability) -> Tensor:
    """How many times as much as the image the heatmap changes, in shares of their values, (B,) float64; RIS.

    Range [0, inf), lower is better: 0 is a map that does not see the image. Maps with zeros that do not stay zero score
    high, since any change is a large share of nothing; compare methods of one kind, by the median.

    Args:
        r: what ``relative_stability`` returns, which says where it is NaN.

    Source: Agarwal et al., arXiv 2203.06877, equation 2.
    """
    return r.input


def relative_output_stability(r: RelativeStability) -> Tensor:
    """How many times as much as the logits the heatmap changes, of the map in shares of its values, (B,) float64; ROS.

    Range [0, inf), lower is better; the unit is one over that of the logits, so compare methods on one model.

    Args:
        r: what ``relative_stability`` returns, which says where it is NaN.

    Source: Agarwal et al., arXiv 2203.06877, equation 5.
    """
    return r.output


def relative_representation_stability(r: RelativeStability) -> Tensor:
    """How many times as much as a layer's output the heatmap changes, in shares of their values, (B,) float64; RRS.

    Range [0, inf), lower is better. After a ReLU most shares are of nothing, and the score is small for every map.

    Args:
        r: what ``relative_stability`` returns, which says where it is NaN.

    Source: Agarwal et al., arXiv 2203.06877, equation 3.
    """
    return r.representation


def _stability_of(e: Explained) -> RelativeStability:
    explain = e.once(remembered)
    return relative_stability(
        e.model,
        explain,
        e.images,
        e.heatmaps,
        e.targets,
        layer=e.layer,
        output=e.output,
        batch_size=e.batch_size,
        seed=e.seed,
    )


def _spec(score: Callable[[RelativeStability], Tensor], title: str, formula: str) -> MetricSpec:
    return MetricSpec(
        name=score.__name__,
        title=title,
        formula=f"max |(a(y) - a(x)) / a(x)| / {formula} over 10 images y of the same prediction within 0.02 of x",
        score=lambda e: score(e.once(_stability_of)),
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        chance="0 for a map that does not see the image",
        needs_model=True,
        reference="Agarwal 2022, arXiv 2203.06877",
    )


RELATIVE_INPUT_STABILITY = _spec(relative_input_stability, "Relative input stability", "|(y - x) / x|")
RELATIVE_OUTPUT_STABILITY = _spec(relative_output_stability, "Relative output stability", "|z(y) - z(x)|")
RELATIVE_REPRESENTATION_STABILITY = _spec(
    relative_representation_stability,
    "Relative representation stability",
    "|(L(y) - L(x)) / L(x)|, L a layer's output,",
)
