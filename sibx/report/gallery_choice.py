"""Which images a gallery shows: every class in its turn, and some that the classifier gets wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import pandas as pd

from sibx.datasets.base import MaskedDataset, spread
from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import IMAGE

T = TypeVar("T")
CANDIDATES = 16  # labels that are asked for, per image that is shown


def class_by_class(dataset: MaskedDataset, count: int) -> list[int]:
    """Return indices of at most ``count`` images, the classes taking turns, so that a rare class is seen as well.

    The images of a class are spread over the data set; with more classes than images, so are the classes. Nothing
    depends on a model: the galleries of two models show the same images.

    Args:
        dataset: images with one label each.
        count: number of images.

    Example:
        >>> data = build_dataset("synthetic", split="test-id", image_size=32)
        >>> len({data.label_of(i) for i in class_by_class(data, 8)})
        8
    """
    members: dict[int, list[int]] = {}
    for index in spread(len(dataset), CANDIDATES * count):
        members.setdefault(int(dataset.label_of(index)), []).append(index)
    return sorted(_in_turn(members, count))


def wrong_ones(rows: pd.DataFrame, count: int) -> list[int]:
    """Return indices of at most ``count`` images that are classified wrong, the classes of their labels taking turns.

    Args:
        rows: rows of Results of one model, or of their ``hits``; images have there the order that they have in the
            data set.
        count: number of images.
    """
    images = rows.drop_duplicates(list(IMAGE)).reset_index(drop=True)
    wrong = images[is_right(images) == 0]
    members = {int(str(label)): of_label.index.tolist() for label, of_label in wrong.groupby("label", observed=True)}
    return sorted(_in_turn(members, count))


def _in_turn(members: Mapping[int, Sequence[T]], count: int) -> Iterator[T]:
    """Yield at most so many members, of every class as many as of the others while it has any, spread over each."""
    classes = sorted(members)
    left = {classes[i]: len(members[classes[i]]) for i in spread(len(classes), count)}
    taken = dict.fromkeys(left, 0)
    for _ in range(max(left.values(), default=0)):
        for name in left:
            if taken[name] < left[name] and sum(taken.values()) < count:
                taken[name] += 1
    for name, wanted in taken.items():
        yield from (members[name][i] for i in spread(left[name], wanted))
