"""``sibx explain``: overlays and raw maps of the user's own pictures, by one model or several."""

import io
import sys
import traceback
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sibx._checks import check_integer, require
from sibx._files import real, write_atomically
from sibx.attribution import resolve_methods
from sibx.cli.answer import Answer, answer
from sibx.cli.contact_sheet import ContactSheet, png
from sibx.cli.loading import Classifier, from_checkpoint, from_weights
from sibx.cli.picture_files import MAPS, OVERLAY, Source, find_pictures, is_contact_sheet, written_about
from sibx.cli.question import Question, ask
from sibx.images.reading import Once
from sibx.report import SheetRow, draw_rows, draw_sheet
from sibx.report.sheet import LONGER
from sibx.runs import named_device

OK, SOME_FAILED, ALL_FAILED = 0, 1, 2  # exit codes
BUNDLED = ("efficientnet_lite0", "bundled")  # the model and the weights where no option names any


def run(args: Namespace) -> int:
    """Explain the images one by one; return 1 if some could not be explained, and 2 if none could."""
    out, questions, sources = Path(args.out), _understand(args), find_pictures(args.images)
    _keep_apart(sources, out)
    explained, failed, warn, sheet = 0, 0, Once(), ContactSheet(out, len(questions))
    for source in sources:
        try:
            for name, pixels in source.read(args.frames, warn):
                answers = {label: answer(question, pixels) for label, question in questions.items()}
                overlay = _write(out, name, answers)
                for label, found in answers.items():
                    print(f"{source.path}: {f'{label}: ' if label else ''}{found.words}; {overlay}", flush=True)
                sheet.add(_rows(name, answers))
                explained += 1
        except Exception as error:  # whatever a model makes of it; the others are explained all the same
            if args.debug:
                traceback.print_exc()
            print(f"sibx: error: `images`: {source.path}: {error}", file=sys.stderr)
            failed += 1
    pages = sheet.close()
    if pages:
        print(f"contact sheet{'s' * (len(pages) > 1)}: {', '.join(map(str, pages))}")
    if not failed:
        return OK
    return SOME_FAILED if explained else ALL_FAILED


def _understand(args: Namespace) -> dict[str, Question]:
    """Check everything before anything is computed or written: a question per model, by the model's short name."""
    resolve_methods(args.methods)
    check_integer("frames", args.frames, 1)
    device = named_device(args.device)
    questions = {}
    for label, classifier in _classifiers(args).items():
        try:
            questions[label] = ask(args, classifier, device)
        except ValueError as error:  # of several models, which one
            raise ValueError(f"{label}: {error}" if label else str(error)) from error
    return questions


def _classifiers(args: Namespace) -> dict[str, Classifier]:
    """Load the models that the options name; a single one needs no short name."""
    if args.checkpoint:
        labels = short_names(args.checkpoint) if len(args.checkpoint) > 1 else [""]
        found = (from_checkpoint(path, args.model) for path in args.checkpoint)
        return dict(zip(labels, found, strict=True))
    name, weights = (args.model, args.weights) if args.model or args.weights else BUNDLED
    return {"": from_weights(name, weights, args.num_classes)}


def short_names(paths: Sequence[str]) -> list[str]:
    """Return names that tell files apart: those of the files, else of their folders, else the paths.

    Raises:
        ValueError: a file that is named twice.
    """
    files = [real(path) for path in paths]
    require(len(set(files)) == len(files), "checkpoint", "name no file twice", list(paths))
    choices = [f.stem for f in files], [f.parent.name for f in files], list(paths)
    return next(names for names in choices if len(set(names)) == len(names))


def _keep_apart(sources: Sequence[Source], out: Path) -> None:
    """Require that nothing is written over a picture that is read."""
    read = {real(source.path) for source in sources}
    written = {real(out / source.name) for source in sources}  # without endings
    over = [p for p in sorted(read) if any(p.with_name(name) in written for name in written_about(p))]
    over += [p for p in sorted(read) if p.parent == real(out) and is_contact_sheet(p)]
    require(not over, "out", "be a folder where no picture is overwritten", [str(p) for p in over])


def _write(out: Path, name: str, answers: Mapping[str, Answer]) -> Path:
    """Write the files of one picture; return the overlay's path."""
    overlay, maps = out / f"{name}{OVERLAY}", out / f"{name}{MAPS}"
    rule = f"hold no picture of another origin, which has no {maps.name} beside it"
    require(maps.exists() or not overlay.exists(), "out", rule, str(overlay))
    arrays = {
        f"{label}/{method}".lstrip("/"): values
        for label, found in answers.items()
        for method, values in found.attributions.items()
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_atomically(maps, stream.getbuffer())  # first, so that no overlay lies there without
    if len(answers) == 1:
        (found,) = answers.values()
        write_atomically(overlay, png(draw_sheet(found.pixels, found.heatmaps, found.title)))
    else:
        write_atomically(overlay, png(draw_rows(_rows("", answers), cell=LONGER)))
    return overlay


def _rows(name: str, answers: Mapping[str, Answer]) -> list[SheetRow]:
    """One row per model, named by the picture and the model."""
    names = ["\n".join(filter(None, (name, label))) for label in answers]
    return [SheetRow(n, a.pixels, a.title, a.heatmaps) for n, a in zip(names, answers.values(), strict=True)]
