"""Which methods apply to a model: found by trying, on one image and before anything else runs."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import require
from sibx._outputs import Output, predicted
from sibx.attribution.many import attribute
from sibx.attribution.method import MethodSpec, PartlyFits
from sibx.models.classes import scored_by_class
from sibx.models.finding import resolve_layer

NO_MODULE = "it needs a torch.nn.Module, and the model is a function"
NO_FIT = "it has to see at least 2 images of the data first, as in build_method(name, model).fit(images)"
FAILURES = (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError, ImportError)


def why_not(
    specs: Sequence[MethodSpec],
    model: Any,
    image: Tensor,
    layer: nn.Module | str | None = None,
    output: Output = "auto",
    *,
    wholly: bool = False,
) -> dict[str, str]:
    """Return why methods do not apply to a model, name -> reason; those that do are absent.

    Tried are methods that need a module or a layer; other ones of METHODS take any model that has a gradient.

    Args:
        specs: the methods.
        model: the model, in eval mode.
        image: one image (1, C, H, W) on the model's device.
        layer: layer for methods that need one; None = ``find_cam_layer``.
        output: what the logits are.
        wholly: also name methods that reach only a part of the model, which otherwise is worth a warning.
    """
    reasons: dict[str, str] = {}
    with _quietly(), torch.random.fork_rng(devices=[]):
        for spec in specs:
            try:
                _try(spec, model, image, layer, output, wholly)
            except (*FAILURES, PartlyFits) as error:
                reasons[spec.name] = " ".join(str(error).split())
    return reasons


def applicable(
    specs: Sequence[MethodSpec], model: Any, images: Tensor, layer: nn.Module | str | None, output: Output
) -> list[MethodSpec]:
    """Return the methods that apply to a model in eval mode; a warning names the others, with the reasons.

    Raises:
        ValueError: none applies.
    """
    reasons = why_not(specs, model, images[:1], layer, output, wholly=True)
    left = [spec for spec in specs if spec.name not in reasons]
    require(bool(left), "methods", "apply to the model", reasons)
    if reasons:
        said = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
        warnings.warn(f"these methods do not apply to the model and are left out: {said}", stacklevel=3)
    return left


def _try(spec: MethodSpec, model: Any, image: Tensor, layer: Any, output: Output, wholly: bool) -> None:
    if not (spec.needs_layer or spec.needs_module):
        return
    if not isinstance(model, nn.Module):
        raise TypeError(NO_MODULE)
    if spec.needs_fit:
        raise ValueError(NO_FIT)
    if spec.needs_layer:
        resolve_layer(model, layer, image)
    method = spec.build(scored_by_class(model, output), layer)
    if spec.kind != "cam":  # of a CAM the layer decides, and some take hundreds of passes
        with torch.no_grad():
            target = predicted(model(image), output)
        warnings.simplefilter("error" if wholly else "ignore", PartlyFits)
        attribute(spec, method, image, target)


@contextmanager
def _quietly() -> Iterator[None]:
    """Within the block nothing warns: what is worth a warning is said again when the methods run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
