"""Sanity with less noise: randomization of heatmaps that are averaged over noisy copies of the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sibx._checks import check_explained, check_images, check_integer, check_range
from sibx._precise import precise, precise_dtype
from sibx.metrics.explained import Explain
from sibx.metrics.sanity._randomization import Order, Randomization, randomization
from sibx.metrics.sanity.copies import ExplainWith, check_module
from sibx.metrics.similarity import Similarity
from sibx.models.layers import eval_mode

SAMPLES, NOISE = 50, 0.1


def smooth_randomization(
    model: nn.Module,
    explain_with: ExplainWith,
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

    All models see the same noise (``smoothed``), so that nothing but the parameters differs. The heatmaps of the model
    itself are made here.

    Args:
        model: images -> logits (B, K); copied.
        explain_with: model -> function (images, targets) -> heatmaps.
        images: (B, C, H, W), normalized.
        targets: (B,) the class explained, at all stages the same.
        samples: number of noisy copies, at least 1.
        noise: standard deviation of the noise as a share of each image's range of values.
        order: ``cascading``: a stage keeps what the ones before have drawn; ``independent``: each starts from the
            trained model.
        layers: names of modules in the order of their stages; the paper goes from the bottom up: name them in this
            order. None = all modules that hold parameters, in reverse of the order in which they run.
        stages: at most so many; the layers are then dealt out evenly. None = one for each layer.
        similarity: ``spearman`` or ``ssim``.
        seed: seed of the random noise and of the random parameters.

    Returns:
        Randomization; a similarity is NaN where one of the maps is not finite or the model's own is zero everywhere.

    Raises:
        ValueError: a model that is no module or has no parameters, an unknown name, ``samples`` or ``stages`` below 1,
            a negative ``noise``, a wrong shape or dtype, or ``explain_with`` that does not give heatmaps.

    Source: Hedstroem et al., arXiv 2401.06465 (N = 50, noise 0.1). Heatmaps, at least 0, take the place of its signed
    attributions.
    """
    check_module(model)

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

    Args:
        explain: (images, targets) -> heatmaps.
        samples: number of noisy copies, at least 1.
        noise: standard deviation of the noise as a share of each image's range of values.
        seed: seed of the random noise.

    Raises:
        ValueError: ``samples`` below 1 or a negative ``noise``; when called, what is not heatmaps.
    """
    check_integer("samples", samples, 1)
    check_range("noise", noise, 0)

    def explain_smoothly(images: Tensor, targets: Tensor) -> Tensor:
        check_images(images)
        generator = torch.Generator().manual_seed(seed)
        scale = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
        total = torch.zeros((), dtype=precise_dtype(images.device), device=images.device)
        for _ in range(samples):
            draw = torch.randn(images.shape[1:], generator=generator).to(images)
            total = total + precise(check_explained(explain(images + scale * draw, targets), images))
        return total / samples

    return explain_smoothly
