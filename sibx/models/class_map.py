"""The classes of data among the outputs of a model that was trained on other classes: ``class_map``."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, require
from sibx._outputs import Output, by_class, kind_of
from sibx.models._about import about
from sibx.models.scored import Scored, unwrap

Place = int | str
ClassMap = Mapping[Place, Place | Sequence[Place]] | str
BY_NAME, BY_WORDNET = "names", "wordnet"
WORDS = (BY_NAME, BY_WORDNET)
WORDNET_ID = re.compile(r"n\d{8}(?!\d)")


def read_class_map(
    class_map: ClassMap, classes: Sequence[str], output_names: Sequence[str] | None = None
) -> dict[int, tuple[int, ...]]:
    """Return index of a data class -> indices of the outputs that stand for it, in the order of the classes.

    Args:
        class_map: class of the data -> output or several outputs, each a name or an index; or ``"names"``: outputs with
            the same name, whatever the case, ``_`` and ``-``, or with it among names between commas; or ``"wordnet"``:
            for classes whose names begin with a WordNet id (``n01440764``) the outputs of a model of ImageNet's 1,000
            classes in their usual order.
        classes: names of the data's classes.
        output_names: names of the outputs, where they are known.

    Raises:
        ValueError: an unknown class or output, an output of two classes, or a map that is empty.
    """
    if isinstance(class_map, str):
        found = _by_word(class_map, classes, output_names)
    else:
        require(isinstance(class_map, Mapping), "class_map", f"be a mapping or one of {', '.join(WORDS)}", class_map)
        found = {_find(key, classes, "class"): _outputs(value, output_names) for key, value in class_map.items()}
    found = {place: found[place] for place in sorted(found) if found[place]}
    require(bool(found), "class_map", f"name an output for a class of {list(classes)[:10]}", class_map)
    used = [output for outputs in found.values() for output in outputs]
    twice = sorted({output for output in used if used.count(output) > 1})
    require(not twice, "class_map", "name every output for one class", twice)
    return found


def map_classes(model: Callable[..., Any], outputs: Sequence[Sequence[int]], output: Output = "auto") -> Any:
    """Return the model with a column for each class of a map; a module stays one, with the names of its layers.

    Of ``softmax`` the score of a class is the logsumexp of its outputs, so that its probability is the sum of theirs; a
    last column holds all other outputs together (none of the classes). Of ``sigmoid`` and ``raw`` it is the largest of
    its outputs. A single logit may be turned round: ``{0: 1, 1: 0}``.

    Args:
        model: the model, images -> logits (B, K).
        outputs: for each class the indices of its outputs.
        output: what the logits are.

    Example:
        >>> model = build_model("tiny_cnn", num_classes=5).eval()
        >>> images = torch.rand(2, 3, 32, 32)
        >>> two = map_classes(model, [[0, 3], [1]])(images)  # 0 or 3; 1; neither
        >>> torch.allclose(two.softmax(1)[:, 0], model(images).softmax(1)[:, [0, 3]].sum(1))
        True
    """
    scores = _Mapped(tuple(tuple(o) for o in outputs), output)
    return Scored(model, scores) if isinstance(model, nn.Module) else lambda images: scores(model(images))


def named_classes(
    model: Callable[..., Any],
    class_map: ClassMap,
    target: Any,
    output: Output = "auto",
    *,
    output_names: Sequence[str] | None = None,
) -> tuple[Any, list[str], Any]:
    """Return the model with a column for each class of a map, the names of the classes, and a target as an index.

    Args:
        model: the model, images -> logits (B, K).
        class_map: class -> output or several outputs, see ``read_class_map``; ``"names"``: the outputs that are called
            as the target.
        target: class of the map, one for each image in a list, or None.
        output: what the logits are.
        output_names: names of the outputs; None = those that the model tells.

    Raises:
        ValueError: what ``read_class_map`` refuses, a target that the map does not name, or ``"names"`` without one.
    """
    several = isinstance(target, list | tuple)
    wanted = [] if target is None else [str(name) for name in (target if several else [target])]
    rule = "be a mapping where no target names a class"
    require(bool(wanted) or not isinstance(class_map, str), "class_map", rule, class_map)
    given, classes = class_map, list(dict.fromkeys(wanted))
    if isinstance(class_map, Mapping):
        given = {str(name): outputs for name, outputs in class_map.items()}
        classes = [str(name) for name in class_map]
    found = read_class_map(given, classes, output_names or class_names(model))
    names = [classes[place] for place in found]
    unknown = [name for name in wanted if name not in names]
    require(not unknown, "target", f"be of the classes that class_map names, {names[:10]}", unknown)
    indices = [names.index(name) for name in wanted]
    chosen = None if target is None else indices if several else indices[0]
    return map_classes(model, list(found.values()), output), names, chosen


def class_names(model: Any) -> tuple[str, ...] | None:
    """Return the names of a model's outputs (``classes``, or Hugging Face's ``config.id2label``); None = unknown."""
    inner = unwrap(model) if isinstance(model, nn.Module) else model
    known = about(inner).classes if isinstance(inner, nn.Module) else None
    known = known or getattr(inner, "classes", None)
    if isinstance(known, Sequence) and not isinstance(known, str):
        return tuple(map(str, known))
    labels = getattr(getattr(inner, "config", None), "id2label", None)
    if not labels or all(str(name) == f"LABEL_{number}" for number, name in labels.items()):
        return None
    return tuple(str(labels[number]) for number in sorted(labels))


@dataclass(frozen=True)
class _Mapped:
    """Scores (B, K) -> scores of the classes; a class, so that it can be pickled and named in what is resumed."""

    outputs: tuple[tuple[int, ...], ...]
    output: Output

    def __call__(self, scores: Tensor) -> Tensor:
        of_classes, kind = by_class(scores, self.output), kind_of(scores, self.output)
        count, used = of_classes.shape[1], [place for places in self.outputs for place in places]
        require(max(used) < count, "class_map", f"name outputs in 0..{count - 1}, the model's", max(used))
        if scores.shape[1] == 1:
            rule = "name both classes of a model with one logit, each with one output"
            require(self.outputs in (((0,), (1,)), ((1,), (0,))), "class_map", rule, self.outputs)
            return scores if self.outputs[0] == (0,) else -scores
        joined = [_join(of_classes[:, list(places)], exclusive=kind.exclusive) for places in self.outputs]
        rest = [place for place in range(count) if place not in set(used)]
        if kind.exclusive and rest:
            joined.append(_join(of_classes[:, rest], exclusive=True))
        return torch.stack(joined, 1)


def _join(scores: Tensor, *, exclusive: bool) -> Tensor:
    return scores.logsumexp(1) if exclusive else scores.amax(1)


def _outputs(value: Any, names: Sequence[str] | None) -> tuple[int, ...]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_find(place, names or (), "output") for place in (value if several else [value]))


def _find(place: Any, names: Sequence[str], what: str) -> int:
    """Return the index of a class or an output that is given by its name or its index (as text, too)."""
    if isinstance(place, str) and place in names:
        return list(names).index(place)
    good = (isinstance(place, int) and not isinstance(place, bool)) or (isinstance(place, str) and place.isdigit())
    known = f"one of {list(names)[:10]}{' ...' if len(names) > 10 else ''}" if names else "an index"
    require(good, "class_map", f"name every {what} as {known}", place)
    inside = int(place) >= 0 and (what == "output" or int(place) < len(names))
    require(inside, "class_map", f"name every {what} as {known}", place)
    return int(place)


def _by_word(word: str, classes: Sequence[str], output_names: Sequence[str] | None) -> dict[int, tuple[int, ...]]:
    """Return index of a class -> outputs, none for a class that has no output."""
    check_choice("class_map", word, WORDS)
    if word == BY_WORDNET:
        outputs = {name: (place,) for place, name in enumerate(imagenet_ids())}
        ids = [WORDNET_ID.match(name) for name in classes]
        return {place: outputs.get(found.group(), ()) if found else () for place, found in enumerate(ids)}
    require(output_names is not None, "class_map", "be a mapping for a model that does not tell its classes", word)
    assert output_names is not None
    return {place: _named(name, output_names) for place, name in enumerate(classes)}


@cache
def imagenet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's 1,000 classes, in the order of a model's outputs."""
    return tuple((files("sibx.models") / "imagenet_ids.txt").read_text(encoding="utf-8").split())


def _named(name: str, output_names: Sequence[str]) -> tuple[int, ...]:
    wanted = _plain(name)
    return tuple(k for k, names in enumerate(output_names) if wanted in map(_plain, [names, *names.split(",")]))


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
