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
from matplotlib.figure import Figure
from torch import Tensor, nn

from sibx._checks import check_logits, check_range, require
from sibx._files import write_atomically
from sibx._outputs import Output, probabilities, warn_of_probabilities
from sibx.attribution import MethodSpec, explain_many, resolve_methods, to_heatmap
from sibx.attribution.chosen import asks_all
from sibx.attribution.fitting import why_not
from sibx.cli.loading import Classifier, load_classifier
from sibx.cli.picture_files import MAPS, OVERLAY, Source, find_pictures
from sibx.images import IMAGENET, FittedPicture, Normalization, fit_picture
from sibx.images.reading import Once
from sibx.models import MODELS, Align, about
from sibx.report import draw_sheet
from sibx.runs import named_device

USUAL_SIDE = 224  # of the images of a model that says nothing about them
SHOWN = 3  # number of classes that are printed, the most probable ones
OK, SOME_FAILED, ALL_FAILED = 0, 1, 2  # exit codes


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain about every image; target None = the predicted class, names None = classes have no names."""

    model: nn.Module
    device: torch.device
    normalization: Normalization
    image_size: int
    fit: str
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
    """Explain the images one by one; return 1 if some could not be explained, and 2 if none could."""
    question, sources = _understand(args), find_pictures(args.images)
    _keep_apart(sources, question.out)
    explained, failed, warn = 0, 0, Once()
    for source in sources:
        try:
            for name, pixels in source.read(args.frames, warn):
                _say(f"{source.path}: {_explain(question, name, pixels)}")
                explained += 1
        except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the others are explained all the same
            print(f"sibx: error: `images`: {source.path}: {error}", file=sys.stderr)
            failed += 1
    if not failed:
        return OK
    return SOME_FAILED if explained else ALL_FAILED


def _understand(args: Namespace) -> Question:
    """Check everything before anything is computed or written."""
    methods = resolve_methods(args.methods)
    check_range("frames", args.frames, 1)
    device, classifier = named_device(args.device), load_classifier(args)
    output = classifier.output(args.output)
    count = args.num_classes if classifier.classes is None else len(classifier.classes)
    count = 2 if count == 1 and output != "raw" else count  # a single logit tells two classes apart
    carried = about(classifier.model)
    known = classifier.classes or carried.classes
    names = _read_names(args.class_names, count) if args.class_names else known
    size = args.image_size or classifier.notes.get("image_size") or carried.image_size or USUAL_SIDE
    check_range("image_size", size, 16)
    normalization, model = _find_normalization(classifier), classifier.model.to(device).eval()
    if asks_all(args.methods):
        gray = normalization(torch.full((1, 3, size, size), 0.5, device=device))
        methods = _say_left_out(methods, why_not(methods, model, gray, args.layer, output, wholly=True))
    return Question(
        model=model,
        device=device,
        normalization=normalization,
        image_size=size,
        fit=args.fit,
        methods=methods,
        layer=args.layer,
        output=output,
        align=args.align,
        names=names,
        target=_read_target(args.target, names, count),
        out=Path(args.out),
    )


def _say_left_out(methods: list[MethodSpec], reasons: dict[str, str]) -> list[MethodSpec]:
    """Return the methods that apply to the model, after a line for each of the others."""
    for name, reason in reasons.items():
        print(f"left out: {name}: {reason}")
    return [spec for spec in methods if spec.name not in reasons]


def _find_normalization(classifier: Classifier) -> Normalization:
    """Return what the checkpoint was fine-tuned with, else what the model's published weights were trained with."""
    given = classifier.notes.get("normalization")
    if given:
        return Normalization(tuple(given["mean"]), tuple(given["std"]))
    return MODELS[classifier.name].normalization if classifier.name in MODELS else IMAGENET


def _keep_apart(sources: Sequence[Source], out: Path) -> None:
    """Require that nothing is written over a picture that is read."""
    read = {source.path.resolve() for source in sources}
    written = [(out / f"{source.name}{ending}").resolve() for source in sources for ending in (OVERLAY, MAPS)]
    over = [str(path) for path in written if path in read]
    require(not over, "out", "be a folder where no picture is overwritten", over)


def _explain(question: Question, name: str, pixels: Tensor) -> str:
    """Write the files of one image, and return what to print about it."""
    seen, logits = _look(question, pixels)
    found = probabilities(logits, question.output)[0]
    require(not bool(found.isnan().any()), "model", "give finite scores of the picture", logits[0])
    top = found.topk(min(SHOWN, len(found))).indices.tolist()
    target = top[0] if question.target is None else question.target
    maps = explain_many(
        question.model,
        question.normalization(seen.pixels[None].to(question.device)),
        target,
        question.methods,
        question.layer,
        output=question.output,
        align=question.align,
    )
    height, width = seen.pixels.shape[1:]
    heatmaps = {s.title: seen.back(to_heatmap(maps[s.name], (height, width), s.reduce).cpu()) for s in question.methods}
    title = f"{question.label(target)} ({found[target]:.3f})"
    overlay = question.out / f"{name}{OVERLAY}"
    write_atomically(overlay, _png(draw_sheet(seen.shown[None], heatmaps, title)))
    stream = io.BytesIO()
    arrays: dict[str, Any] = {name: values[0].cpu().numpy() for name, values in maps.items()}
    np.savez_compressed(stream, **arrays)
    write_atomically(question.out / f"{name}{MAPS}", stream.getbuffer())
    predictions = ", ".join(f"{question.label(i)} ({found[i]:.3f})" for i in top)
    return f"{predictions}; explained: {question.label(target)}; seen at {width} x {height} px; {overlay}"


def _look(question: Question, pixels: Tensor) -> tuple[FittedPicture, Tensor]:
    """Return the picture as the network sees it, and its logits (1, K)."""
    if question.fit != "auto":
        return _look_so(question, pixels, question.fit)
    try:
        return _look_so(question, pixels, "whole")
    except (RuntimeError, ValueError, AssertionError):  # many transformers take squares of one size only
        return _look_so(question, pixels, "pad")


def _look_so(question: Question, pixels: Tensor, fit: Any) -> tuple[FittedPicture, Tensor]:
    seen = fit_picture(pixels, question.image_size, fit, question.normalization.mean)
    with torch.inference_mode():
        logits = question.model(question.normalization(seen.pixels[None].to(question.device)))
    check_logits(logits, 1)
    warn_of_probabilities(logits, question.output)
    return seen, logits


def _png(figure: Figure) -> memoryview:
    """Return a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=figure.dpi, format="png")
    return stream.getbuffer()


def _say(line: str) -> None:
    """Print a line; if nobody reads on (``| head``), the pictures are explained all the same."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        sys.stdout = io.StringIO()


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
