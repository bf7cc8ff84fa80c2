"""Classifiers: the MODELS table, ``build_model``, and functions that find their layers.

To add a model: one line in MODELS with a builder ``(num_classes, weights) -> nn.Module``.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from sibx._checks import check_integer, look_up, require
from sibx._outputs import (
    Criterion,
    Output,
    Rates,
    by_class,
    classification_rates,
    criterion_for,
    hits,
    predicted,
    probabilities,
    scores_for,
)
from sibx._plugins import Table, only
from sibx.images.normalization import IMAGENET, Normalization
from sibx.models._about import About, about, carry
from sibx.models._receptive_field import ReceptiveField, receptive_field
from sibx.models._redraw import layers_inside, parameter_layers, redraw
from sibx.models.alignment import Align, Alignment, HalfPixel, find_alignment
from sibx.models.cells_apart import CellsApart
from sibx.models.centering import center_head
from sibx.models.channels import COLORS, take_channels
from sibx.models.checkpoint import load_checkpoint, read_about
from sibx.models.class_map import class_names, map_classes
from sibx.models.classes import ByClass
from sibx.models.efficientnet_lite import EfficientNetLite
from sibx.models.exporting import export_model
from sibx.models.finding import find_cam_layer, find_cam_layers, own_side, resolve_layer
from sibx.models.heads import head_parameters
from sibx.models.hugging_face import build_hugging_face
from sibx.models.layers import eval_mode, frozen_batch_norm, record
from sibx.models.layout import to_grid
from sibx.models.looking import Eye
from sibx.models.prompts import PromptScores, zero_shot
from sibx.models.scored import Scored, contrast, unwrap
from sibx.models.tiny import TinyCNN
from sibx.models.tiny_vit import TinyViT
from sibx.models.zoo import (
    IMAGENET_CLASSES,
    PUBLISHED,
    build_timm,
    imagenet_names,
    lite_builder,
    timm_normalization,
    torchvision_builder,
)

__all__ = [
    "MODELS",
    "SOURCES",
    "About",
    "Align",
    "Alignment",
    "ByClass",
    "CellsApart",
    "Criterion",
    "EfficientNetLite",
    "Eye",
    "HalfPixel",
    "ModelSpec",
    "Output",
    "PromptScores",
    "Rates",
    "ReceptiveField",
    "Scored",
    "TinyCNN",
    "TinyViT",
    "about",
    "build_model",
    "by_class",
    "center_head",
    "class_names",
    "classification_rates",
    "contrast",
    "criterion_for",
    "eval_mode",
    "export_model",
    "find_alignment",
    "find_cam_layer",
    "find_cam_layers",
    "frozen_batch_norm",
    "head_parameters",
    "hits",
    "layers_inside",
    "load_model",
    "map_classes",
    "parameter_layers",
    "predicted",
    "probabilities",
    "receptive_field",
    "record",
    "redraw",
    "resolve_layer",
    "scores_for",
    "take_channels",
    "to_grid",
    "unwrap",
    "zero_shot",
]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One line of the MODELS table.

    Attributes:
        name: key in the table.
        title: name shown in tables and figures.
        build: function ``(num_classes, weights) -> nn.Module``.
        reference: publication that the model comes from.
        normalization: the normalization of images that the published weights were trained with.
    """

    name: str
    title: str
    build: Callable[..., nn.Module]
    reference: str
    normalization: Normalization = IMAGENET


MINUS_ONE_TO_ONE = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _tiny_builder(name: str, build: Callable[[int], nn.Module]) -> Callable[..., nn.Module]:
    def build_tiny(num_classes: int, weights: str | None = None) -> nn.Module:
        require(weights is None, "weights", f"be None for {name}, which has no published weights", weights)
        return build(num_classes)

    return build_tiny


MODELS: Table[ModelSpec] = Table(
    "sibx.models",
    (
        ModelSpec("tiny_cnn", "TinyCNN", _tiny_builder("tiny_cnn", TinyCNN), "sibx.models.tiny"),
        ModelSpec("tiny_vit", "TinyViT", _tiny_builder("tiny_vit", TinyViT), "Dosovitskiy 2021, arXiv 2010.11929"),
        ModelSpec("resnet18", "ResNet-18", torchvision_builder("resnet18", "fc"), "He 2016, arXiv 1512.03385"),
        ModelSpec("resnet50", "ResNet-50", torchvision_builder("resnet50", "fc"), "He 2016, arXiv 1512.03385"),
        ModelSpec("vgg16", "VGG-16", torchvision_builder("vgg16"), "Simonyan 2015, arXiv 1409.1556"),
        ModelSpec("densenet121", "DenseNet-121", torchvision_builder("densenet121"), "Huang 2017, arXiv 1608.06993"),
        ModelSpec("mobilenet_v2", "MobileNetV2", torchvision_builder("mobilenet_v2"), "Sandler 2018, arXiv 1801.04381"),
        ModelSpec(
            "efficientnet_b0",
            "EfficientNet-B0",
            torchvision_builder("efficientnet_b0"),
            "Tan 2019, arXiv 1905.11946",
        ),
        ModelSpec(
            "efficientnet_lite0",
            "EfficientNet-Lite0",
            lite_builder("efficientnet_lite0"),
            "Tan 2019, arXiv 1905.11946",
            MINUS_ONE_TO_ONE,
        ),
        ModelSpec(
            "efficientnet_lite1",
            "EfficientNet-Lite1",
            lite_builder("efficientnet_lite1"),
            "Tan 2019, arXiv 1905.11946",
            MINUS_ONE_TO_ONE,
        ),
        ModelSpec(
            "efficientnet_lite2",
            "EfficientNet-Lite2",
            lite_builder("efficientnet_lite2"),
            "Tan 2019, arXiv 1905.11946",
            MINUS_ONE_TO_ONE,
        ),
        ModelSpec("convnext_tiny", "ConvNeXt-T", torchvision_builder("convnext_tiny"), "Liu 2022, arXiv 2201.03545"),
    ),
    only(ModelSpec),
)


# Models of other libraries, by what their names begin with.
SOURCES: dict[str, Callable[[str, int, str | None], nn.Module]] = {"timm/": build_timm, "hf/": build_hugging_face}


def build_model(name: str | ModelSpec, num_classes: int, weights: str | None = None, *, channels: int = 3) -> nn.Module:
    """Build a classifier from the MODELS table, in train mode, on the CPU.

    Args:
        name: key of MODELS, a ModelSpec of your own, ``"timm/<name>"`` for a model of timm (extra ``timm``), or
            ``"hf/<name or folder>"`` for an image classifier of transformers (extra ``hf``).
        num_classes: number of classes K, the number of outputs.
        weights: None = random weights, ``"default"`` = the pre-trained weights of torchvision, timm or transformers,
            ``"bundled"`` = the ImageNet weights of an EfficientNet-Lite (extra ``pretrained``), or the path of a state
            dict. If the weights are for another number of classes, the head is replaced by a new one. Published weights
            need images in the normalization ``MODELS[name].normalization``.
        channels: number of channels of the images; for another number than 3 the first convolution is replaced by one
            that is made of its weights.

    Returns:
        The model. ``about(model)`` has the ``normalization`` of the images its weights were trained on, their
        ``image_size`` where the model says it, and with published weights the names of ImageNet's ``classes``.

    Raises:
        ValueError: an unknown name, ``num_classes`` or ``channels`` below 1, or weights that do not fit.
        ImportError: timm, transformers, or the package of the bundled weights, is not installed.

    Example:
        >>> model = build_model("tiny_cnn", num_classes=5)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """
    check_integer("num_classes", num_classes, 1)
    for prefix, build in SOURCES.items():
        if isinstance(name, str) and name.startswith(prefix):
            model = take_channels(build(name.removeprefix(prefix), num_classes, weights), channels)
            trained = timm_normalization(unwrap(model)) if weights is not None and channels == COLORS else None
            side = own_side(unwrap(model))
            return carry(model, About(model=name, scores=num_classes, normalization=trained, image_size=side))
    spec = name if isinstance(name, ModelSpec) else look_up("name", name, MODELS)
    names = imagenet_names() if weights in PUBLISHED and num_classes == IMAGENET_CLASSES else None
    model = take_channels(spec.build(num_classes, weights), channels)
    known = About(
        model=spec.name,
        scores=num_classes,
        classes=names,
        normalization=None if weights is None or channels != COLORS else spec.normalization,
        image_size=own_side(model),
    )
    return carry(model, known)


def load_model(path: str | Path, model: str | nn.Module | None = None) -> nn.Module:
    """Load a trained network from the ``model.pt`` of ``fine_tune``, the command line or a study, ready to use.

    Files are read as data (``weights_only``): one from anywhere may hold wrong numbers, but runs no code.

    Args:
        path: the file.
        model: the network as it was built, or how ``build_model`` calls it; None = as the file says, which it does for
            networks that ``build_model`` built.

    Returns:
        The network on the CPU, in eval mode. ``about(network)`` has its ``classes``, the ``normalization`` and
        ``image_size`` of its images, and its ``output``.

    Raises:
        ValueError: the file is missing, damaged, not one of sibx, does not say how its network is built, or does not
            fit ``model``.

    Example:
        >>> import tempfile
        >>> data, net = build_dataset("synthetic", split="train", image_size=32, size=8), build_model("tiny_cnn", 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config = TrainConfig(epochs=1, batch_size=8)
        ...     result = fine_tune(net, data, config=config, out_dir=folder, progress=False)
        ...     network = load_model(f"{folder}/model.pt")
        >>> about(network).image_size, len(about(network).classes), network.training
        (32, 8, False)
    """
    known = read_about(path)
    if not isinstance(model, nn.Module):
        name = model or known.model
        rule = "be given for a file that does not say how build_model calls its network"
        require(bool(name), "model", rule, None)
        assert name is not None
        assert known.classes is not None
        channels = (len(known.normalization.mean) if known.normalization else 0) or COLORS
        model = build_model(name, known.scores or max(1, len(known.classes)), channels=channels)
        known = replace(known, model=name)
    load_checkpoint(path, model)
    return carry(model, replace(about(model), **_said(known))).eval()


def _said(known: About) -> dict[str, Any]:
    """Return what a file says of its model; the rest is as the model was built."""
    values = {f.name: getattr(known, f.name) for f in fields(known)}
    return {name: value for name, value in values.items() if value is not None}
