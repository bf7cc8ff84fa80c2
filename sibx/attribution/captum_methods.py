"""Attributions and classes of Captum's form as MethodSpecs: what they look at, and how another model is explained."""

import copy
import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from captum.attr import (
    DeepLift,
    GradientAttribution,
    IntegratedGradients,
    LayerAttribution,
    NoiseTunnel,
    PerturbationAttribution,
)
from torch import Tensor, nn

from sibx._checks import require
from sibx.attribution.method import Kind, Method, MethodSpec
from sibx.attribution.safe import grad_enabled
from sibx.models.finding import resolve_layer
from sibx.models.scored import unwrap

RULE = (
    "be a key of METHODS, module:name, a MethodSpec, a function (model, images, targets) -> maps, "
    "a Captum attribution or its class"
)
# Captum's classes whose signs have no meaning, or are gone: the heatmap is the norm over channels, as in METHODS.
UNSIGNED = ("Saliency", "GuidedBackprop", "GuidedGradCam", "GuidedGradCAM", "Deconvolution", "SmoothGrad", "VarGrad")


def of_class(cls: type, name: str, argument: str) -> MethodSpec:
    """Return the MethodSpec of a class that is built with the model, and with the layer if it takes one."""
    require(callable(getattr(cls, "attribute", None)), argument, RULE, cls)
    needed = _needed(cls)
    first = next(iter(inspect.signature(cls).parameters), "")
    takes_layer = "layer" in inspect.signature(cls).parameters
    rule = "be built with the model (and a layer) alone; give an instance, a function or a MethodSpec instead"
    require(first != "attribution_method", argument, f"{rule}, such as {name}(Saliency(model))", cls)
    further = [p for p in needed[1:] if p != "layer"]
    require(bool(first) and not further, argument, rule, f"{name}, which needs {further or 'no model'}")
    _check_call(cls, argument)

    def build(model: Any, layer: nn.Module | str | None) -> Method:
        return Guarded(lambda images: cls(model, resolve_layer(model, layer, images)) if takes_layer else cls(model))

    spec = MethodSpec(name, name, build, _reference(cls), baseline=_baseline(cls))
    return _described(spec, cls, needs_layer=takes_layer, needs_module=True)


class Guarded:
    """An attribution of Captum's form, called in grad mode with inputs of its own, without its remarks about hooks.

    Args:
        build: function ``images -> attribution``: a class that needs a layer is built when there are images, on which
            the layer may have to be found.
    """

    def __init__(self, build: Callable[[Tensor], Any]):
        self._build = build
        self._method: Any = None

    def attribute(self, inputs: Any, target: Any = None, **options: Any) -> Any:
        """Return the attributions of images."""
        self._method = self._method or self._build(inputs)
        options |= {} if target is None else {"target": outside(target)}
        with grad_enabled(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting (backward|forward)")
            return self._method.attribute(outside(inputs).requires_grad_(), **options)


def outside(value: Any) -> Any:
    """Return a tensor that may be differentiated, whatever mode it comes from; other values as they are."""
    if not isinstance(value, Tensor):
        return value
    return value.clone() if value.is_inference() else value.detach()


def of_instance(instance: Any, name: str, argument: str, model: Any) -> MethodSpec:
    """Return the MethodSpec of an instance, which is moved to the model that is explained; None = that of any."""
    _check_call(instance, argument)
    held = _held_model(instance)
    if isinstance(model, nn.Module) and held is not None:
        same = any(module is unwrap(model) for module in held.modules()) or unwrap(held) is unwrap(model)
        rule = "explain the model that is given, or a wrapper of it (a function or a class takes any model)"
        require(same, argument, rule, f"{name} of another {type(unwrap(held)).__name__}")
    inner = unwrap(model) if isinstance(model, nn.Module) else None if held is None else unwrap(held)

    def build(new: Any, _: nn.Module | str | None) -> Method:
        moved = instance if inner is None or held is None else _moved(instance, inner, model, new)
        return Guarded(lambda _: moved)

    cls = type(instance)
    spec = MethodSpec(name, name, build, _reference(cls), rebuilds=held is not None, baseline=_baseline(cls))
    return _described(spec, _kind_source(instance), uses_target=_uses_target(instance))


def _moved(instance: Any, inner: nn.Module, outer: Any, new: Any) -> Any:
    """Return a copy of an attribution that explains another model of the same layers; the instance stays as it is."""
    target = unwrap(new) if isinstance(new, nn.Module) else None
    if target is None:
        return instance
    theirs = dict(target.named_modules())
    known = {id(module): theirs[name] for name, module in inner.named_modules() if name in theirs}
    known |= {id(outer): new, id(inner): new}
    call = getattr(instance, "forward_func", None)
    if isinstance(call, MethodType) and call.__name__ in ("forward", "__call__"):
        instance = copy.copy(instance)
        instance.forward_func = call.__self__  # the bound method of a copy would be that of another class
    return copy.deepcopy(instance, known)


def _held_model(instance: Any) -> nn.Module | None:
    """Return the module that an attribution explains; None where that is a function that does not tell."""
    for name in ("forward_func", "model", "attribution_method", "grad_cam"):
        found = getattr(instance, name, None)
        if found is not None:
            module = found if isinstance(found, nn.Module) else _module_in(found)
            if module is not None:
                return module
    return None


def _module_in(found: Any) -> nn.Module | None:
    """Return the module behind a bound method, or behind the attribution that another one repeats."""
    if isinstance(found, MethodType):
        return found.__self__ if isinstance(found.__self__, nn.Module) else None
    return None if isinstance(found, FunctionType | partial) else _held_model(found)


def _described(spec: MethodSpec, cls: type, **changes: Any) -> MethodSpec:
    return replace(spec, own=True, kind=_kind_of(cls), signed=not _is_unsigned(cls), **changes)


def _kind_source(instance: Any) -> type:
    """Return the class that says what an attribution looks at: inside a NoiseTunnel that of the repeated one."""
    return _kind_source(instance.attribution_method) if isinstance(instance, NoiseTunnel) else type(instance)


def _baseline(cls: type) -> Callable[[Tensor], Tensor] | None:
    """Return where attributions start that are made without ``baselines=``, and add up: Captum's default, zero."""
    return torch.zeros_like if cls in (IntegratedGradients, DeepLift) else None


def _is_unsigned(cls: type) -> bool:
    return any(base.__name__ in UNSIGNED for base in cls.__mro__)


def _kind_of(cls: type) -> Kind | None:
    kinds: dict[type, Kind] = {
        LayerAttribution: "cam",
        GradientAttribution: "gradient",
        PerturbationAttribution: "perturbation",
    }
    return next((kind for base, kind in kinds.items() if issubclass(cls, base)), None)


def _needed(call: Any) -> list[str]:
    """Return the names of the arguments without a default."""
    parameters = inspect.signature(call).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _check_call(method: Any, argument: str) -> None:
    """Require an ``attribute`` that needs the inputs alone; a class's has ``self`` before them."""
    named = [n for n in _needed(method.attribute) if n != "self"]
    further = [n for n in named[1:] if n != "target"]
    rule = "need no argument of attribute() but inputs and target; a function (model, images, targets) can give others"
    require(not further, argument, rule, further)


def _uses_target(instance: Any) -> bool:
    parameters = inspect.signature(instance.attribute).parameters
    return "target" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _reference(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
