"""What ``sibx explain`` is asked: a model, how it sees a picture, and what to explain about each."""

import json
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sibx._checks import check_integer, check_range, require
from sibx.attribution import MethodSpec, resolve_methods
from sibx.attribution.chosen import asks_all
from sibx.attribution.fitting import why_not
from sibx.cli.loading import Classifier, read_map
from sibx.images import IMAGENET, Normalization
from sibx.images.fitted_picture import Fit
from sibx.models import MODELS, Align, about
from sibx.models.class_map import named_classes
from sibx.models.looking import Eye

ANOTHER = "another class"  # than those that a class map names
USUAL_SIDE = 224  # of the images of a model that says nothing about them


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain about every picture.

    Attributes:
        eye: the model, and how it sees pictures.
        fit: what it sees of a picture, see ``fit_picture``; or ``auto``.
        methods: the methods that explain.
        layer: layer for methods that need one; None = the last feature map.
        align: where CAMs draw the units of the layer; None = as the methods are built.
        names: names of the classes; None = they have none.
        target: class to explain; None = the predicted one.
    """

    eye: Eye
    fit: Fit | Literal["auto"]
    methods: list[MethodSpec]
    layer: str | None
    align: Align | None
    names: Sequence[str] | None
    target: int | None

    def label(self, index: int) -> str:
        """Return the number and the name of a class."""
        return f"{index} {self.names[index]}" if self.names and index < len(self.names) else str(index)


def ask(args: Namespace, classifier: Classifier, device: torch.device) -> Question:
    """Return the question that the options put to a classifier.

    Raises:
        ValueError: an option that does not fit the classifier.
    """
    methods, output = resolve_methods(args.methods), classifier.output(args.output)
    count = args.num_classes if classifier.classes is None else len(classifier.classes)
    count = 2 if count == 1 and output != "raw" else count  # a single logit tells two classes apart
    carried = about(classifier.model)
    known = classifier.classes or carried.classes
    names = _read_names(args.class_names, count) if args.class_names else known
    size = args.image_size or classifier.notes.get("image_size") or carried.image_size or USUAL_SIDE
    check_integer("image_size", size, 16)
    normalization, model = find_normalization(classifier), classifier.model.to(device).eval()
    if args.class_map is None:
        target = _read_target(args.target, names, count)
    else:
        wanted, class_map = None if args.target == "predicted" else args.target, read_map(args.class_map)
        model, classes, target = named_classes(model, class_map, wanted, output, output_names=names)
        names = [*classes, ANOTHER]
    if asks_all(args.methods):
        gray = normalization(torch.full((1, 3, size, size), 0.5, device=device))
        methods = _say_left_out(methods, why_not(methods, model, gray, args.layer, output, wholly=True))
    return Question(
        eye=Eye(model, device, normalization, size, output),
        fit=args.fit,
        methods=methods,
        layer=args.layer,
        align=args.align,
        names=names,
        target=target,
    )


def _say_left_out(methods: list[MethodSpec], reasons: dict[str, str]) -> list[MethodSpec]:
    """Return the methods that apply to the model, after a line for each of the others."""
    for name, reason in reasons.items():
        print(f"left out: {name}: {reason}")
    return [spec for spec in methods if spec.name not in reasons]


def find_normalization(classifier: Classifier) -> Normalization:
    """Return what the checkpoint was fine-tuned with, else what the model's published weights were trained with."""
    given = classifier.notes.get("normalization")
    if given:
        return Normalization(tuple(given["mean"]), tuple(given["std"]))
    return MODELS[classifier.name].normalization if classifier.name in MODELS else IMAGENET


def _read_names(path: str, count: int) -> list[str]:
    """Read one name per line, or JSON: a list, or number -> name or [..., name] (Keras's imagenet_class_index)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        names = json.loads(text) if path.endswith(".json") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"`class_names` must be a file of names, but got {path!r}: {error}") from error
    if isinstance(names, dict):
        numbers = [str(i) for i in range(count)]
        require(set(names) == set(numbers), "class_names", f"have the numbers 0..{count - 1}", path)
        names = [names[number] for number in numbers]
    require(isinstance(names, list) and len(names) == count, "class_names", f"hold {count} names", path)
    return [str(name[-1]) if isinstance(name, list) else str(name) for name in names]


def _read_target(text: str, names: Sequence[str] | None, count: int) -> int | None:
    if text == "predicted":
        return None
    if re.fullmatch(r"-?[0-9]+", text):
        check_range("target", int(text), 0, count - 1)
        return int(text)
    known = list(names or ())
    require(text in known, "target", "be 'predicted', or the number or the name of a class", text)
    return known.index(text)
