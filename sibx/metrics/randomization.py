"""Sanity: does the heatmap change when the model's parameters are drawn again?

A map that stays the same does not explain the model. The functions explain again, by callables that they are handed;
the user's model is copied and stays untouched. Everything random depends on the seed, never on the batch.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, check_explained, check_images, check_range, check_same_batch, require
from sibx.metrics.base import Explain
from sibx.metrics.complexity import BINS, histogram_entropy
from sibx.metrics.similarity import Similarity, compare
from sibx.models._redraw import layers_inside, parameter_layers, redraw
from sibx.models.layers import eval_mode

Order = Literal["cascading", "independent"]
SAMPLES, NOISE = 50, 0.1


class Randomization(NamedTuple):
    """What became of the heatmaps as layers were drawn again.

    Attributes:
        layers: names of the modules whose own parameters are drawn again, for each of the S stages.
        fractions: (S + 1,) float64, share of the layers drawn again so far, from 0 to 1; for ``independent`` the
            position of the stage.
        similarities: (B, S + 1) float64, the first column is that of the heatmaps with themselves.
        score: (B,) float64, mean similarity over the S stages.
    """

    layers: tuple[tuple[str, ...], ...]
    fractions: Tensor
    similarities: Tensor
    score: Tensor


def randomization(
    model: nn.Module,
    explain_with: Callable[[nn.Module], Explain],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    order: Order = "cascading",
    layers: Sequence[str] | None = None,
    stages: int | None = None,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Randomization:
    """Similarity of the heatmaps to those of models whose parameters are drawn again, from the head down.

    ``cascading``: a stage keeps what the ones before have drawn, so the last model is random throughout;
    ``independent``: each stage starts from the trained model. Range [-1, 1], lower is better: 1 is a map that does not
    see the parameters (every model-free control), about 0 one that forgets all of the trained map.

    Args:
        model: images -> logits (B, K); copied.
        explain_with: model -> function (images, targets) -> heatmaps.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0, of the model itself.
        targets: (B,) the class explained, at all stages the same.
        order: ``cascading`` or ``independent``.
        layers: names of modules in the order of their stages; the parameters of everything inside them are drawn.
            None = all modules that hold parameters, in reverse of the order in which they run.
        stages: at most so many; the layers are then dealt out evenly. None = one for each layer, as published.
        similarity: ``spearman`` or ``ssim``.
        seed: of the parameters; what a layer gets depends on it and the layer's name only.

    Returns:
        Randomization. A similarity is NaN as the function says (``sibx.metrics.similarity``), the score where one is.

    Raises:
        ValueError: a model that is no module or has no parameters, an unknown name, ``stages`` below 1, a wrong shape
            or dtype, or ``explain_with`` that does not give heatmaps.

    Source: Adebayo et al., arXiv 1810.03292. Ours: layers in the order in which they run, not in which they are listed;
    parameters of modules without an initialization of their own keep mean and standard deviation; no HOG.
    """
    check_choice("order", order, ("cascading", "independent"))
    _check_inputs(model, images, heatmaps, targets)
    with eval_mode(model):
        groups = _deal(_blocks(model, images, layers), stages)
        similarities, changed = [compare(similarity, heatmaps, heatmaps)], model
        for group in groups:
            if order == "independent" or changed is model:
                changed = copy.deepcopy(model)
            redraw(changed, group, seed)
            others = check_explained(explain_with(changed)(images, targets), images, "explain_with")
            similarities.append(compare(similarity, heatmaps, others.to(heatmaps.device)))
    done = torch.tensor([0, *(len(g) for g in groups)], dtype=torch.float64).cumsum(0)
    columns = torch.stack(similarities, 1)
    return Randomization(tuple(groups), done / done[-1], columns, columns[:, 1:].mean(1))


def smooth_randomization(
    model: nn.Module,
    explain_with: Callable[[nn.Module], Explain],
    images: Tensor,
    targets: Tensor,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    order: Order = "cascading",
    layers: Sequence[str] | None = None,
    stages: int | None = None,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Randomization:
    """Smooth MPRT: ``randomization`` of heatmaps averaged over noisy copies of the image, which denoises both sides.

    All models see the same noise (``smoothed``), so that nothing but the parameters differs. Arguments, result and
    errors as ``randomization``; the heatmaps of the model itself are made here.

    Args:
        model: as for ``randomization``.
        explain_with: as for ``randomization``.
        images: as for ``randomization``.
        targets: as for ``randomization``.
        samples: noisy copies, at least 1.
        noise: standard deviation of the noise as a share of each image's range of values.
        order: as for ``randomization``.
        layers: as for ``randomization``; the paper goes from the bottom up: name them in this order.
        stages: as for ``randomization``.
        similarity: as for ``randomization``.
        seed: of the noise and of the parameters.

    Source: Hedstroem et al., arXiv 2401.06465 (N = 50, noise 0.1). Heatmaps, at least 0, take the place of its signed
    attributions.
    """
    _check_module(model)

    def explain_smoothly(changed: nn.Module) -> Explain:
        return smoothed(explain_with(changed), samples, noise, seed)

    with eval_mode(model):
        heatmaps = explain_smoothly(model)(images, targets)
    return randomization(
        model,
        explain_smoothly,
        images,
        heatmaps,
        targets,
        order=order,
        layers=layers,
        stages=stages,
        similarity=similarity,
        seed=seed,
    )


def smoothed(explain: Explain, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0) -> Explain:
    """Return a function that averages heatmaps over ``samples`` noisy copies of every image.

    The noise is normal, with ``noise (max - min)`` of each image as its standard deviation and the same draws for every
    image and every model.

    Raises:
        ValueError: ``samples`` below 1 or a negative ``noise``; when called, what is not heatmaps.
    """
    check_range("samples", samples, 1)
    check_range("noise", noise, 0)

    def explain_smoothly(images: Tensor, targets: Tensor) -> Tensor:
        check_images(images)
        generator = torch.Generator().manual_seed(seed)
        scale = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        for _ in range(samples):
            draw = torch.randn(images.shape[1:], generator=generator).to(images)
            total = total + check_explained(explain(images + scale * draw, targets), images).double()
        return total / samples

    return explain_smoothly


def complexity_rise(
    model: nn.Module,
    explain_with: Callable[[nn.Module], Explain],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    bins: int = BINS,
    seed: int = 0,
) -> Tensor:
    """Efficient MPRT: relative rise of the heatmap's complexity when all parameters are drawn again, ``(H' - H) / H``.

    H is the entropy of the histogram of the map's values (``histogram_entropy``). Range [-1, inf), higher is better:
    an explanation of a random model should be less ordered; 0 is a map that does not see the parameters, -1 one that
    goes silent, as CAMs of random models often do. One more explanation per image. Errors as ``randomization``.

    Args:
        model: as for ``randomization``.
        explain_with: as for ``randomization``.
        images: as for ``randomization``.
        heatmaps: as for ``randomization``.
        targets: as for ``randomization``.
        bins: of the histogram, at least 2.
        seed: of the parameters.

    Returns:
        (B,) float64, NaN where a map is not finite, or the heatmap is constant (H = 0).

    Source: Hedstroem et al., arXiv 2401.06465 (100 bins). Heatmaps, at least 0, take the place of its signed
    attributions.
    """
    _check_inputs(model, images, heatmaps, targets)
    with eval_mode(model):
        changed = copy.deepcopy(model)
        redraw(changed, layers_inside(changed, ""), seed)
        others = check_explained(explain_with(changed)(images, targets), images, "explain_with")
    before, after = histogram_entropy(heatmaps, bins), histogram_entropy(others.to(heatmaps.device), bins)
    return ((after - before) / before).masked_fill(before == 0, torch.nan)


def _check_module(model: object) -> None:
    good = isinstance(model, nn.Module) and any(True for _ in model.parameters())
    if not good:
        raise ValueError(f"`model` must be a torch.nn.Module with parameters, but got a {type(model).__name__}.")


def _check_inputs(model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
    _check_module(model)
    check_images(images)
    check_same_batch(images, heatmaps=heatmaps, targets=targets)


def _blocks(model: nn.Module, images: Tensor, layers: Sequence[str] | None) -> list[list[str]]:
    """What is drawn together, first to last: each layer by itself, or all of each module that was asked for."""
    if layers is None:
        return [[name] for name in parameter_layers(model, images)[::-1]]
    require(len(layers) > 0, "layers", "name at least one module", layers)
    blocks = [layers_inside(model, name) for name in layers]
    require(all(blocks), "layers", "name modules that hold parameters", layers)
    return blocks


def _deal(blocks: list[list[str]], stages: int | None) -> list[tuple[str, ...]]:
    """Put the blocks into at most ``stages`` runs of nearly equally many."""
    check_range("stages", 1 if stages is None else stages, 1)
    count = len(blocks) if stages is None else min(stages, len(blocks))
    cuts = [round(i * len(blocks) / count) for i in range(count + 1)]
    return [tuple(chain.from_iterable(blocks[first:last])) for first, last in pairwise(cuts)]
