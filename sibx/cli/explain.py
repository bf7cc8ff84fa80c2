"""``sibx explain``: overlays and raw maps of the user's own pictures."""

import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sibx._checks import check_logits, check_range, look_up, require
from sibx._files import write_atomically
from sibx._outputs import Output, probabilities, warn_of_probabilities
from sibx.attribution import METHODS, MethodSpec, explain_many, to_heatmap
from sibx.cli.loading import Classifier, load_classifier
from sibx.images import IMAGENET, Normalization
from sibx.images.geometry import resize_and_center_crop
from sibx.images.reading import to_pixels
from sibx.models import MODELS, Align
from sibx.report import montage
from sibx.runs import named_device

SHOWN = 3  # number of classes that are printed, the most probable ones
DPI = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain about every image; target None = the predicted class, names None = classes have no names."""

    model: nn.Module
    device: torch.device
    normalization: Normalization
    image_size: int
    methods: list[MethodSpec]
    layer: str | None
    output: Output
    align: Align | None
    names: Sequence[str] | None
    target: int | None
    out: Path

    def label(self, index: int) -> str:
        """Return the number and the name of a class."""
        return f"{index} {self.names[index]}" if self.names else str(index)


def run(args: Namespace) -> int:
    """Explain the images one by one; return 1 if some could not be read."""
    question = _understand(args)
    failed = False
    for path in args.images:
        try:
            with Image.open(path) as picture:
                pixels = to_pixels(picture)
        except Exception as error:  # a damaged file may make Pillow raise any error
            print(f"sibx: error: `images` must be pictures, but got {path!r}: {error}", file=sys.stderr)
            failed = True
        else:
            print(_explain(question, path, pixels), flush=True)
    return int(failed)


def _understand(args: Namespace) -> Question:
    """Check everything before anything is computed or written."""
    methods = [look_up("methods", name, METHODS) for name in args.methods]
    require(len(set(args.methods)) == len(methods), "methods", "name no method twice", args.methods)
    stems = [Path(path).stem for path in args.images]
    require(len(set(stems)) == len(stems), "images", "have different names, which name the files in `out`", args.images)
    device, classifier = named_device(args.device), load_classifier(args)
    output = classifier.output(args.output)
    count = args.num_classes if classifier.classes is None else len(classifier.classes)
    count = 2 if count == 1 and output != "raw" else count  # a single logit tells two classes apart
    names = _read_names(args.class_names, count) if args.class_names else classifier.classes
    size = args.image_size or classifier.notes.get("image_size", 224)
    check_range("image_size", size, 16)
    return Question(
        model=classifier.model.to(device).eval(),
        device=device,
        normalization=_find_normalization(classifier),
        image_size=size,
        methods=methods,
        layer=args.layer,
        output=output,
        align=args.align,
        names=names,
        target=_read_target(args.target, names, count),
        out=Path(args.out),
    )


def _find_normalization(classifier: Classifier) -> Normalization:
    """Return what the checkpoint was fine-tuned with, else what the model's published weights were trained with."""
    given = classifier.notes.get("normalization")
    if given:
        return Normalization(tuple(given["mean"]), tuple(given["std"]))
    return MODELS[classifier.name].normalization if classifier.name in MODELS else IMAGENET


def _explain(question: Question, path: str, pixels: Tensor) -> str:
    """Write the files of one image, and return the line to print."""
    cropped = resize_and_center_crop(pixels, question.image_size)[None].to(question.device)
    images = question.normalization(cropped)
    with torch.inference_mode():
        logits = question.model(images)
        check_logits(logits, 1)
        warn_of_probabilities(logits, question.output)
        found = probabilities(logits, question.output)[0]
    top = found.topk(min(SHOWN, len(found))).indices.tolist()
    target = top[0] if question.target is None else question.target
    maps = explain_many(
        question.model, images, target, question.methods, question.layer, output=question.output, align=question.align
    )
    size = (question.image_size, question.image_size)
    heatmaps = {s.title: to_heatmap(maps[s.name], size, s.reduce) for s in question.methods}
    overlay = question.out / f"{Path(path).stem}.overlay.png"
    write_atomically(overlay, _draw(cropped, heatmaps, f"{question.label(target)} ({found[target]:.3f})"))
    stream = io.BytesIO()
    arrays: dict[str, Any] = {name: values[0].cpu().numpy() for name, values in maps.items()}
    np.savez_compressed(stream, **arrays)
    write_atomically(question.out / f"{Path(path).stem}.maps.npz", stream.getbuffer())
    predictions = ", ".join(f"{question.label(i)} ({found[i]:.3f})" for i in top)
    return f"{path}: {predictions}; explained: {question.label(target)}; {overlay}"


def _draw(pixels: Tensor, heatmaps: dict[str, Tensor], title: str) -> memoryview:
    """Return the overlay as the bytes of a PNG file."""
    no_mask = torch.zeros_like(pixels[:, :1], dtype=torch.bool)
    figure = montage(pixels, no_mask, heatmaps, [title])
    figure.axes[0].set_title("image", fontsize=7)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, format="png", bbox_inches="tight")
    return stream.getbuffer()


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
    if text.lstrip("-").isdigit():
        check_range("target", int(text), 0, count - 1)
        return int(text)
    known = list(names or ())
    require(text in known, "target", "be 'predicted', or the number or the name of a class", text)
    return known.index(text)
