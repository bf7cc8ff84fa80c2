"""Deletion and insertion: does the score follow when the pixels that the heatmap names go, or come?"""

from collections.abc import Callable

from torch import Tensor

from sibx._outputs import Output
from sibx.images.baselines import Baseline
from sibx.images.normalization import Normalization
from sibx.metrics.curves._perturbations import STEPS, Curves, Perturbations, perturbations
from sibx.metrics.explained import Explained
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


def deletion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = "mean",
    output: Output = "auto",
    normalization: Normalization | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
) -> Curves:
    """Probability of the target as the most relevant pixels are replaced by the baseline; lower AUC is better.

    Pixels of all channels go together, in ``steps`` equal shares; both end points are measured. Equal heatmap values
    are ordered at random (seeded), not from top to bottom. Also the curve called MoRF, most relevant first.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        baseline: what pixels are replaced by: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see
            ``sibx.images.make_baseline``.
        output: what the logits are, see ``sibx.models.Output``; of ``raw`` ones the curve is that of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares in which the pixels are replaced, at least 1.
        batch_size: perturbed images per forward pass; steps of different images share a pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``; the same for every image, so
            that a score does not depend on its batch.

    Returns:
        Curves; chance is the curve of a random map, not a fixed number. The area is NaN where the heatmap is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Petsiuk et al., arXiv 1806.07421 (28 steps and the mean as in its tables).
    """
    return Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    ).deletion(baseline)


def deletion_of(e: Explained) -> Curves:
    """Return the curve of what was explained, and leave it for the runner."""
    return _kept(e, "deletion", e.once(perturbations).deletion())


DELETION = MetricSpec(
    name="deletion",
    title="Deletion AUC",
    formula="area under the probability of the class as the most relevant pixels become the mean, 28 equal shares",
    score=lambda e: deletion_of(e).auc,
    higher_is_better=False,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Petsiuk 2018, arXiv 1806.07421",
)


def insertion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = "blur",
    output: Output = "auto",
    normalization: Normalization | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
) -> Curves:
    """Probability of the target as the most relevant pixels appear on the baseline; higher AUC is better.

    Pixels of all channels come together, in ``steps`` equal shares; both end points are measured. Equal heatmap values
    are ordered at random (seeded), not from top to bottom.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        baseline: what the image starts from: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see
            ``sibx.images.make_baseline``.
        output: what the logits are, see ``sibx.models.Output``; of ``raw`` ones the curve is that of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares in which the pixels appear, at least 1.
        batch_size: perturbed images per forward pass; steps of different images share a pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``; the same for every image, so
            that a score does not depend on its batch.

    Returns:
        Curves; chance is the curve of a random map, not a fixed number. The area is NaN where the heatmap is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Petsiuk et al., arXiv 1806.07421, with a true Gaussian blur.
    """
    return Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    ).insertion(baseline)


def insertion_of(e: Explained) -> Curves:
    """Return the curve of what was explained, and leave it for the runner."""
    return _kept(e, "insertion", e.once(perturbations).insertion())


INSERTION = MetricSpec(
    name="insertion",
    title="Insertion AUC",
    formula="area under the probability of the class as the most relevant pixels appear on a blur, 28 equal shares",
    score=lambda e: insertion_of(e).auc,
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Petsiuk 2018, arXiv 1806.07421",
)


def lerf(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = "mean",
    output: Output = "auto",
    normalization: Normalization | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
) -> Curves:
    """Probability of the target as the least relevant pixels are replaced by the baseline; higher AUC is better.

    LeRF, least relevant first: the exact reverse of the order of ``deletion``, ties included.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        baseline: what pixels are replaced by: ``mean``, ``black`` (needs ``normalization``), ``blur`` or ``noise``, see
            ``sibx.images.make_baseline``.
        output: what the logits are, see ``sibx.models.Output``; of ``raw`` ones the curve is that of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares in which the pixels are replaced, at least 1.
        batch_size: perturbed images per forward pass; steps of different images share a pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``; the same for every image, so
            that a score does not depend on its batch.

    Returns:
        Curves; chance is the curve of a random map, not a fixed number. The area is NaN where the heatmap is zero
        everywhere or not finite.

    Raises:
        ValueError: a wrong shape, dtype or range, or an unknown baseline.

    Source: Samek et al., arXiv 1509.06321, with pixels, shares and baseline of ``deletion``.
    """
    return Perturbations(
        model,
        images,
        heatmaps,
        targets,
        output=output,
        normalization=normalization,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    ).lerf(baseline)


def lerf_of(e: Explained) -> Curves:
    """Return the curve of what was explained, and leave it for the runner."""
    return _kept(e, "lerf", e.once(perturbations).lerf())


LERF = MetricSpec(
    name="lerf",
    title="LeRF AUC",
    formula="deletion with the least relevant pixels first",
    score=lambda e: lerf_of(e).auc,
    higher_is_better=True,
    bounds=(0.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Samek 2017, arXiv 1509.06321",
)


def _kept(e: Explained, name: str, curves: Curves) -> Curves:
    e.keep(name, curves.fractions, curves.probabilities)
    return curves
