"""Methods of one's own in the form of a MethodSpec: a function, a Captum attribution or its class, ``module:name``."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import look_up, require
from sibx._imported import imported
from sibx._outputs import Output
from sibx.attribution.captum_methods import RULE, of_class, of_instance, outside
from sibx.attribution.method import Method, MethodSpec
from sibx.attribution.methods import METHODS
from sibx.attribution.safe import grad_enabled
from sibx.models.classes import scored_by_class, told_output

AnyMethod = Any  # what ``to_method`` takes; a type would have to name every class with an ``attribute``
MODEL_NAMES = ("model", "forward_func", "network", "net")  # of an argument that takes the model


def to_method(method: AnyMethod, name: str | None = None, *, argument: str = "method", model: Any = None) -> MethodSpec:
    """Return a method of any form as a MethodSpec, which says what it is; ``dataclasses.replace`` changes it.

    Args:
        method: one of

            - a key of METHODS;
            - a MethodSpec;
            - a function ``(model, images (B, C, H, W), targets (B,)) -> maps``; maps are heatmaps (B, 1, H, W), at
              least 0, or attributions in the shape of the images, whose norm over channels is the heatmap. A function
              ``(images, targets) -> maps`` knows its model itself, and explains that one only;
            - an instance of a Captum attribution, of the model or of a wrapper of it;
            - a class of Captum's form, which is built with the model, and with the layer if it takes a ``layer``;
            - ``module:name`` of any of these, which is imported.
        name: name of the method in results; None = its own: that of the spec, the function or the class.
        argument: what errors call it.
        model: the model that will be explained, which an instance is compared with; None = any.

    Returns:
        MethodSpec. Of a class or an instance ``signed`` is False for Captum's Saliency, GuidedBackprop, GuidedGradCam
        and Deconvolution, else True; ``kind`` is what its base class says; ``rebuilds`` is False where it explains one
        model only.

    Raises:
        ValueError: an unknown key, what is none of these, an instance of another model, or a class or an instance that
            needs further arguments.

    Example:
        >>> def edges(model, images, targets):
        ...     return images.diff(dim=-1, append=images[..., -1:]).abs().sum(1, keepdim=True)
        >>> to_method(edges).name, explain(build_model("tiny_cnn", 5), torch.rand(2, 3, 32, 32), edges).shape
        ('edges', torch.Size([2, 1, 32, 32]))
    """
    if isinstance(method, str) and ":" in method:
        label, method = method.rpartition(":")[2], imported(argument, method)
        name = name or (method.name if isinstance(method, MethodSpec) else label)
    if isinstance(method, str):
        method = look_up(argument, method, METHODS)
    if isinstance(method, MethodSpec):
        return method if name in (None, method.name) else replace(method, name=str(name))
    if isinstance(method, type):
        return of_class(method, name or method.__name__, argument)
    if callable(getattr(method, "attribute", None)):
        return of_instance(method, name or type(method).__name__, argument, model)
    require(callable(method) and not isinstance(method, nn.Module), argument, RULE, method)
    return _of_function(method, name or _name_of(method), argument)


def build_method(
    name: AnyMethod,
    model: nn.Module,
    layer: nn.Module | str | None = None,
    *,
    output: Output = "auto",
) -> Method:
    """Build an attribution method from the METHODS table, or one of your own.

    Args:
        name: key of METHODS, or any other form of a method that ``to_method`` takes.
        model: the model, images (B, C, H, W) -> logits (B, K).
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are, see ``sibx.models.Output``; targets are classes, 0 and 1 for a single logit.

    Raises:
        ValueError: an unknown name; the message lists the choices and the closest match.
    """
    return to_method(name, argument="name", model=model).build(scored_by_class(model, output), layer)


def check_maps(spec: MethodSpec, maps: Any, images: Tensor) -> Tensor:
    """Require maps of a method of one's own: (B, C, h, w), finite where the image is, at least 0 if they are heatmaps.

    Returns:
        The maps, detached.
    """
    argument, batch = f"methods[{spec.name!r}]", len(images)
    maps = maps[0] if isinstance(maps, tuple) and len(maps) == 1 else maps
    good = isinstance(maps, Tensor) and maps.ndim == 4 and maps.is_floating_point() and len(maps) == batch
    require(good, argument, f"return floating-point maps of shape ({batch}, C, H, W)", maps)
    values: Tensor = maps.detach()
    sound = images.detach().isfinite().flatten(1).all(1).to(values.device)
    broken = sound & ~values.isfinite().flatten(1).all(1)
    require(not bool(broken.any()), argument, "return finite values", f"NaN or inf for {int(broken.sum())} of {batch}")
    if spec.kind is None and not spec.signed:  # a function
        shapes = [(batch, 1, *images.shape[2:]), tuple(images.shape)]
        rule = f"return heatmaps of shape {shapes[0]}, or attributions of shape {shapes[1]}"
        require(tuple(values.shape) in shapes, argument, rule, values)
        lowest = float(values.nan_to_num(0).amin()) if values.shape[1] == 1 and values.numel() else 0.0
        require(lowest >= 0, argument, "return heatmaps that are at least 0 (with signs: a MethodSpec)", lowest)
    return values


def _of_function(function: Callable[..., Any], name: str, argument: str) -> MethodSpec:
    takes_model = _takes_model(function, argument)

    def build(model: Any, _: nn.Module | str | None) -> Method:
        return FromFunction(partial(function, told_output(model)[0]) if takes_model else function)

    return MethodSpec(name, name, build, "a function of the caller's", own=True, rebuilds=takes_model)


class FromFunction:
    """A function (images, targets) -> maps in the form of a method."""

    def __init__(self, function: Callable[[Tensor, Any], Any]):
        self.function = function

    def attribute(self, inputs: Any, target: Any = None, **_: Any) -> Any:
        """Return the function's maps of the inputs."""
        with grad_enabled():
            images = outside(inputs)
            return self.function(images, _each(outside(target), images))


def _each(target: Any, images: Tensor) -> Tensor | None:
    """Return one class per image, (B,) int64, of a target in any of Captum's forms for that."""
    if target is None:
        return None
    rule = f"be an int, or one int for each of {len(images)} images, for a function"
    try:
        classes = torch.as_tensor(target, device=images.device)
    except (TypeError, ValueError, RuntimeError):
        classes = torch.empty(0)
    good = classes.dtype == torch.int64 and classes.numel() in (1, len(images)) and classes.ndim <= 1
    require(good, "target", rule, target)
    return classes.expand(len(images))


def _takes_model(function: Callable[..., Any], argument: str) -> bool:
    """Whether a function takes (model, images, targets); if not, it has to take (images, targets)."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin
        return False
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in by_place)
    most = 3 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(by_place)
    stray = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    rule = "be a function (model, images, targets) -> maps, or (images, targets) -> maps"
    require(needed <= 3 and most >= 2 and not stray, argument, rule, [p.name for p in parameters])
    named = bool(by_place) and by_place[0].name in MODEL_NAMES
    return needed == 3 or (named and most >= 3) or not by_place


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    name = str(getattr(function, "__name__", type(function).__name__))
    return "function" if name == "<lambda>" else name
