"""The model, the device and the data that a command's options name."""

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from sibx._checks import look_up, require
from sibx._files import write_atomically
from sibx._outputs import Output
from sibx.cli.settings_file import load_yaml
from sibx.datasets import DATASETS, MaskedDataset, Part, Renormalized, build_dataset, spread
from sibx.datasets.broken import check_samples
from sibx.images.normalization import Normalization
from sibx.models import about, build_model, head_parameters, load_model
from sibx.models.checkpoint import NOTES, read_notes
from sibx.models.class_map import WORDS
from sibx.models.zoo import IMAGENET_CLASSES, PUBLISHED
from sibx.runs.normalized import as_trained
from sibx.runs.place import named_device
from sibx.runs.ranks import rank


class Classifier(NamedTuple):
    """A model and what is known about it.

    Attributes:
        model: the model.
        name: key of MODELS, ``timm/<name>`` or ``hf/<name>``.
        classes: names of the K classes, None if they are not known.
        notes: content of finetune.json, {} without this file.
    """

    model: nn.Module
    name: str
    classes: tuple[str, ...] | None
    notes: dict[str, Any]

    def images(self, image_size: int | None) -> tuple[int | None, Normalization | None]:
        """Return side and normalization of its images, None where they are not known; a side may be asked for."""
        return image_size or self.notes.get("image_size"), about(self.model).normalization

    def output(self, asked: Output | None) -> Output:
        """Return what the logits are: what was asked for, else what the model was fine-tuned with."""
        known: Output = self.notes.get("output", "auto")
        return asked or known


@contextmanager
def process_group(device_name: str | None) -> Iterator[torch.device]:
    """Join the other processes if torchrun started several; yields the device of this process."""
    device = named_device(device_name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def load_classifier(args: Namespace) -> Classifier:
    """Load the trained model that ``--checkpoint``, or ``--model``, ``--weights`` and ``--num-classes`` name.

    Raises:
        ValueError: an option or a file that is missing, cannot be read, or does not fit the others.
    """
    if args.checkpoint is None:
        return from_weights(args.model, args.weights, args.num_classes)
    return from_checkpoint(args.checkpoint, args.model)


def from_weights(name: str | None, weights: str | None, num_classes: int) -> Classifier:
    """Build a model with weights that have nothing beside them.

    Raises:
        ValueError: a name or weights that are missing or do not fit, or another number of classes than the weights'.
        ImportError: what the weights need is not installed.
    """
    require(name is not None, "model", "be given with --weights", None)
    require(weights is not None, "weights", "be given with --model (or --checkpoint)", None)
    assert name is not None
    assert weights is not None
    model = build_model(name, num_classes, weights)
    _check_own_head(model, weights, num_classes)
    return Classifier(model, name, None, {})


def from_checkpoint(path: str, name: str | None) -> Classifier:
    """Load a model.pt of sibx, with what it says of itself.

    Raises:
        ValueError: a file that is missing, cannot be read, or does not fit the name.
    """
    model = load_model(path, name)
    known = about(model)
    notes = known.to_plain() | read_notes(Path(path).parent)
    given = {name: value for name, value in notes.items() if value is not None}
    return Classifier(model, str(name or known.model), known.classes, given)


def load_data(
    args: Namespace, split: str, image_size: int | None = None, normalization: Normalization | None = None
) -> MaskedDataset:
    """Build a split of ``--dataset``, with at most ``--limit`` images; default size of images is the data set's.

    Images are normalized as the model was trained, where that is known (``normalization``), else in the data set's way.

    Raises:
        ValueError: an unknown data set or split, missing data, a limit below 1, or with ``--check`` samples that cannot
            be read.
    """
    spec = look_up("dataset", args.dataset, DATASETS)
    data = as_trained(normalization, build_dataset(spec, args.root, split, image_size or spec.image_size))
    if args.limit is not None:
        require(args.limit >= 1, "limit", "be at least 1", args.limit)
        data = Part(data, spread(len(data), args.limit))
    if args.check and int(os.environ.get("RANK", "0")) == 0:
        check_samples(data, args.workers)
    return data


def say_how_normalized(data: MaskedDataset) -> None:
    """Print how the images of ``load_data`` are normalized where that is not the data set's own way; on one rank."""
    if isinstance(getattr(data, "source", data), Renormalized) and rank() == 0:
        mean, std = data.normalization.mean, data.normalization.std
        print(f"images are normalized as the model was trained: by mean {mean} and std {std}")


def check_classes(classifier: Classifier, data: MaskedDataset, num_classes: int | None) -> None:
    """Raise ValueError for a classifier whose classes are not those of the data set.

    Args:
        classifier: the classifier; its class names have to be the same, if they are known.
        data: the data set.
        num_classes: number of classes of weights without class names; None if the data set's labels do not matter.
    """
    if classifier.classes is not None:
        rule = "have the checkpoint's classes (or give class_map)"
        require(classifier.classes == data.classes, "dataset", rule, list(data.classes))
    elif num_classes is not None:
        rule = f"be the data set's {len(data.classes)}, whose labels are asked for"
        told_apart = 2 if num_classes == 1 else num_classes
        require(told_apart == len(data.classes), "num_classes", rule, num_classes)


def read_map(source: str | None) -> Any:
    """Return the class map that ``--class-map`` names: a JSON or YAML file, one of the words, or None.

    Raises:
        ValueError: the file cannot be read.
        ImportError: YAML without PyYAML.
    """
    if source is None or source in WORDS:
        return source
    try:
        text = Path(source).read_text(encoding="utf-8")
        return json.loads(text) if source.endswith(".json") else load_yaml(text, "--class-map")
    except ImportError:
        raise
    except Exception as error:  # whatever the file makes of JSON and YAML
        rule = f"be a JSON or YAML file, or one of {', '.join(WORDS)}"
        raise ValueError(f"`class_map` must {rule}, but got {source!r}: {error}") from error


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Write finetune.json."""
    write_atomically(folder / NOTES, (json.dumps(notes, indent=2, default=str) + "\n").encode())


def _check_own_head(model: nn.Module, weights: str, num_classes: int) -> None:
    """Raise ValueError if build_model made a new head because the weights have another number of classes."""
    own = num_classes == IMAGENET_CLASSES
    if weights not in PUBLISHED:
        state, head = torch.load(weights, map_location="cpu", weights_only=True), head_parameters(model)[-1]
        own = any(torch.equal(head, value) for value in state.values())
    require(own, "num_classes", "be the number of classes of the weights", num_classes)
