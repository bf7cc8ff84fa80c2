"""How the usual losses count: weights of classes, smoothed labels, and the weight of labels that are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sibx._checks import check_choice, check_range, require

Weights = Literal["balanced"] | float | Sequence[float] | Tensor | None
CLASSES, POSITIVE = "class_weights", "pos_weight"  # what errors call them


@dataclass(frozen=True, slots=True)
class Weighting:
    """What the usual loss of an output is told beside scores and labels.

    Attributes:
        class_weights: weight (C,) of every class in the mean over images, as in torch's ``cross_entropy``; None = 1.
        label_smoothing: share in [0, 1) of the target that is spread evenly over the classes, or over yes and no.
        pos_weight: weight (K,), or one for all, of the labels that are there, as in torch's
            ``binary_cross_entropy_with_logits``; None = 1.
    """

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    pos_weight: Tensor | None = None


PLAIN = Weighting()


def weighting_of(
    output: str,
    *,
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    pos_weight: Weights = None,
    labels: Tensor | None = None,
    classes: int | None = None,
) -> Weighting:
    """Return a Weighting with ``"balanced"`` counted out.

    Args:
        output: what the scores are.
        class_weights: weights (C,), or ``"balanced"``: N / (classes with images x images of the class).
        label_smoothing: share in [0, 1) of the target that is spread evenly.
        pos_weight: weights (K,), one number, or ``"balanced"``: images without the label / images with it.
        labels: labels of all training images, which ``"balanced"`` counts.
        classes: number of classes; None = as many as the labels name.

    Raises:
        ValueError: what ``check_weighting`` refuses, or ``"balanced"`` without labels.
    """
    check_weighting(output, class_weights, label_smoothing, pos_weight)
    for name, value in ((CLASSES, class_weights), (POSITIVE, pos_weight)):
        counted = isinstance(value, str) and labels is None
        require(not counted, "labels", f"be given for {name}='balanced'", labels)
    return Weighting(
        class_weights=_balanced(labels, classes) if isinstance(class_weights, str) else _tensor(class_weights),
        label_smoothing=label_smoothing,
        pos_weight=_negatives_per_positive(labels) if isinstance(pos_weight, str) else _tensor(pos_weight),
    )


def check_weighting(output: str, class_weights: Weights, label_smoothing: float, pos_weight: Weights) -> None:
    """Require weights that are positive numbers, and that do not contradict each other or the output.

    Raises:
        ValueError: something else; both weights; any of them for ``raw``; ``pos_weight`` for ``softmax``.
    """
    check_range("label_smoothing", label_smoothing, 0, 1)
    require(label_smoothing < 1, "label_smoothing", "be below 1, where no label is left", label_smoothing)
    for name, value in ((CLASSES, class_weights), (POSITIVE, pos_weight)):
        _check_weights(name, value)
        require(value is None or output != "raw", name, "be None for output='raw', which has no usual loss", value)
    rule = "be 0 for output='raw', which has no usual loss"
    require(label_smoothing == 0 or output != "raw", "label_smoothing", rule, label_smoothing)
    rule = "be None for output='softmax', whose classes class_weights weighs"
    require(pos_weight is None or output != "softmax", POSITIVE, rule, pos_weight)
    both = class_weights is not None and pos_weight is not None
    require(not both, POSITIVE, "be None beside class_weights, which weighs the same", pos_weight)


def weights_of_classes(given: Weighting, scores: Tensor, classes: int) -> Tensor | None:
    """Return the weights of the classes (C,) in the scores' dtype, on their device; None = 1.

    Raises:
        ValueError: another number of weights than of classes, or a weight of positives, which classes do not have.
    """
    rule = "be None for classes that exclude each other, which class_weights weighs"
    require(given.pos_weight is None, POSITIVE, rule, given.pos_weight)
    return _fitting(CLASSES, given.class_weights, scores, classes)


def weights_of_positives(given: Weighting, scores: Tensor) -> Tensor | None:
    """Return the weights of labels that are there, (K,) or (1,), in the scores' dtype, on their device; None = 1."""
    weight = given.pos_weight
    single = weight is not None and len(weight) == 1
    return _fitting(POSITIVE, weight, scores, 1 if single else scores.shape[1])


def _fitting(name: str, weights: Tensor | None, scores: Tensor, count: int) -> Tensor | None:
    if weights is None:
        return None
    require(len(weights) == count, name, f"hold {count} numbers, one for each class of the model", weights)
    return weights.to(scores)


def _check_weights(name: str, value: Weights) -> None:
    if value is None:
        return
    if isinstance(value, str):
        check_choice(name, value, ("balanced",))
        return
    try:
        tensor = _tensor(value)
    except (TypeError, ValueError, RuntimeError):  # no numbers
        tensor = None
    good = tensor is not None and tensor.ndim == 1 and tensor.isfinite().all() and (tensor >= 0).all() and tensor.any()
    require(bool(good), name, "be 'balanced' or numbers, at least 0 and not all 0", value)


def _tensor(value: float | Sequence[float] | Tensor | None) -> Tensor | None:
    return None if value is None else torch.atleast_1d(torch.as_tensor(value, dtype=torch.float64).detach().cpu())


def _balanced(labels: Tensor | None, classes: int | None) -> Tensor:
    assert labels is not None
    rule = "be None or numbers for several labels per image, whose pos_weight may be 'balanced'"
    require(labels.ndim == 1, CLASSES, rule, "balanced")
    counts = labels.bincount(minlength=classes or 0).to(torch.float64)
    weights = len(labels) / ((counts > 0).sum() * counts)
    return weights.nan_to_num(posinf=0.0)  # a class without an image weighs nothing


def _negatives_per_positive(labels: Tensor | None) -> Tensor:
    assert labels is not None
    table = labels.unsqueeze(1) if labels.ndim == 1 else labels
    positive, negative = ((table == value).sum(0).to(torch.float64) for value in (1, 0))
    both = (positive > 0) & (negative > 0)
    return torch.where(both, negative / positive.clamp(min=1), 1.0)  # where all are alike there is nothing to weigh
