"""Labels as a user's own data set has them: numbers, names, or vectors of several."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_choice, describe, require
from sibx.datasets.items import Key


def read_label(value: Any, classes: tuple[str, ...]) -> int | Tensor:
    """Return a class index, or (K,) float32 of several labels: 1, 0 or NaN = unknown.

    Args:
        value: a number or the name of a class; a vector (K,) of 0, 1 and NaN, or a list of names, for several labels.
        classes: names of the K classes.

    Raises:
        ValueError: anything else, or a class that there is not.
    """
    if isinstance(value, str):
        check_choice("label", value, classes)
        return classes.index(value)
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        for name in value:
            check_choice("label", name, classes)
        return torch.tensor([float(name in value) for name in classes])
    numbers = _to_numbers(value)
    if numbers.ndim == 1 and (len(numbers) > 1 or len(classes) == 1):
        return _several(numbers, len(classes))
    rule = f"be a class in 0..{len(classes) - 1}, its name, or a vector of {len(classes)}"
    require(numbers.numel() == 1, "label", rule, value)
    number = float(numbers)
    require(number in range(len(classes)), "label", rule, value)
    return int(number)


def find_classes(dataset: Any, label: Key, first: Any, classes: Sequence[str] | int | None) -> tuple[str, ...]:
    """Return the names of the classes.

    Args:
        dataset: the user's data set.
        label: where its labels stand.
        first: the label of the first item.
        classes: names or their number; None = what the data set says of itself: ``features`` (Hugging Face),
            ``classes`` or ``num_classes`` (torchvision), or the length of its label vectors.

    Raises:
        ValueError: names that are no texts or not different, or a data set that says nothing.
    """
    if classes is None and not callable(label):
        classes = _names_in(dataset, label)
    if classes is None and not isinstance(first, str) and np.ndim(first) == 1 and len(first) > 1:
        classes = None if isinstance(first[0], str) else len(first)
    if isinstance(classes, int) and not isinstance(classes, bool) and classes > 0:
        return tuple(map(str, range(classes)))
    rule = "be different names, or their number, for a data set that does not say which classes it has"
    require(isinstance(classes, list | tuple), "classes", rule, classes)
    assert isinstance(classes, list | tuple)
    named = len(classes) > 0 and all(isinstance(name, str) for name in classes)
    require(named and len(set(classes)) == len(classes), "classes", rule, classes)
    return tuple(classes)


def _names_in(dataset: Any, label: Key) -> Sequence[str] | int | None:
    features = getattr(dataset, "features", None)
    if isinstance(features, dict):
        feature = features.get(label)
        names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list of labels: of its elements
        return None if names is None else list(names)
    names = getattr(dataset, "classes", getattr(dataset, "num_classes", None))
    inner = getattr(dataset, "dataset", None)  # torch's Subset, and whatever else wraps a data set
    return _names_in(inner, label) if names is None and inner is not None else names


def _to_numbers(value: Any) -> Tensor:
    rule = "be a number, a name, or a vector"
    known = isinstance(value, Tensor | np.ndarray | Real | np.generic | list | tuple)
    require(known, "label", rule, value)
    try:
        return torch.as_tensor(np.asarray(value, dtype=np.float64))
    except (ValueError, TypeError):
        raise ValueError(f"`label` must {rule}, but got {describe(value)}.") from None


def _several(numbers: Tensor, count: int) -> Tensor:
    good = len(numbers) == count and bool(((numbers == 0) | (numbers == 1) | numbers.isnan()).all())
    rule = f"hold 0, 1 or NaN for each of the {count} classes"
    require(good, "label", rule, numbers.tolist() if len(numbers) <= 10 else numbers)
    return numbers.float()
