"""Whether a model's outputs are the classes of the data, and how a ``class_map`` makes them so."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from sibx._checks import require
from sibx._outputs import Output
from sibx.datasets.base import MaskedDataset
from sibx.datasets.several import one_per_class
from sibx.datasets.some_classes import SomeClasses
from sibx.models.class_map import ClassMap, class_names, map_classes, read_class_map

NO_ACCURACY = "the model's outputs are not the classes of the data (class_map says which are)"


class Matched(NamedTuple):
    """A model and a data set of the same classes.

    Attributes:
        model: the model, with a column for each class where there is a map, and maybe a last one for all other outputs.
        dataset: the data set, without samples of classes that a map does not name.
        counts: numbers of columns that fit the classes.
        class_map: name of a class -> its outputs, for the notes of an evaluation; {} without a map.
        output: what the logits are; ``auto`` of several labels per image is ``sigmoid``.
        places: the data's own numbers of the classes.
        photographs: the data set with several labels per image, None for one with one.
    """

    model: Callable[[Tensor], Tensor]
    dataset: MaskedDataset
    counts: tuple[int, ...]
    class_map: dict[str, list[int]]
    output: Output
    places: tuple[int, ...]
    photographs: MaskedDataset | None


def match_classes(model: Any, dataset: MaskedDataset, class_map: ClassMap | None, output: Output) -> Matched:
    """Return the model and the data set, by a map from the data's classes to the model's outputs or as they are.

    Args:
        model: the model.
        dataset: data set; of several labels per image every class present is a sample.
        class_map: class of the data -> output or several outputs of the model, or ``"names"`` or ``"wordnet"``; None =
            they agree.
        output: what the logits are.

    Raises:
        ValueError: what ``read_class_map`` refuses, or a map of classes that no sample has.
    """
    count, photographs = len(dataset.classes), dataset if dataset.several_labels else None
    output = output_for(dataset, output)
    dataset = one_per_class(dataset)
    if class_map is None:
        return Matched(
            model=model,
            dataset=dataset,
            counts=(count,),
            class_map={},
            output=output,
            places=tuple(range(count)),
            photographs=photographs,
        )
    found = read_class_map(class_map, dataset.classes, class_names(model))
    some = dataset if len(found) == count else SomeClasses(dataset, list(found))
    if len(some) < len(dataset):
        left = [name for place, name in enumerate(dataset.classes) if place not in found]
        text = f"{len(dataset) - len(some)} of {len(dataset)} samples are left out: class_map does not name {left[:10]}"
        warnings.warn(text, stacklevel=4)
    return Matched(
        model=map_classes(model, list(found.values()), output),
        dataset=some,
        counts=(len(found), len(found) + 1),
        class_map={dataset.classes[place]: list(outputs) for place, outputs in found.items()},
        output=output,
        places=tuple(found),
        photographs=photographs,
    )


def output_for(data: MaskedDataset, output: Output) -> Output:
    """Return what the logits are on this data: several labels per image do not exclude each other."""
    return "sigmoid" if data.several_labels and output == "auto" else output


def check_same_classes(count: int, counts: tuple[int, ...], argument: str) -> None:
    """Require a model of as many classes as the data has, where labels matter.

    Args:
        count: classes of the model.
        counts: numbers that fit the data.
        argument: what the error calls what asks for labels.

    Raises:
        ValueError: another number; the error says what to do.
    """
    rule = f"be of a model with the data's {counts[0]} classes (`class_map` says which of its outputs they are)"
    require(count in counts, argument, rule, f"{count} classes")
