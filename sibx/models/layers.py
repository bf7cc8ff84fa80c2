"""Reading the outputs of a model's layers while it runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sibx._checks import describe
from sibx.models.differentiable import uncompiled
from sibx.models.layout import is_channels_last, is_surely_channels_first
from sibx.models.plain import PlainFunctions, all_kept
from sibx.models.scored import unwrap

Rewrite = Callable[[Tensor], Tensor]


class Followed(nn.Module):
    """A module's output after the activation function that the model applies to it: a layer, named ``features:relu``.

    It stands for that place of the model and does not run itself.

    Args:
        module: the module.
        function: name of the function, one of ``sibx.models.plain.ACTIVATIONS``.
    """

    def __init__(self, module: nn.Module, function: str):
        super().__init__()
        self.module, self.function = module, function


def main_part(output: Any) -> Any:
    """Return what a module's output is read as: itself, or the first part of a tuple if no other has as many axes.

    So blocks of transformers that return (features, attention weights) can be layers; maps of several scales cannot.
    """
    return output[0] if _has_main_part(output) else output


def _has_main_part(output: Any) -> bool:
    if type(output) is not tuple or not output or not isinstance(output[0], Tensor):
        return False
    return not any(isinstance(part, Tensor) and part.ndim == output[0].ndim for part in output[1:])


def module_of(layer: nn.Module) -> nn.Module:
    """Return the module that runs for a layer."""
    return layer.module if isinstance(layer, Followed) else layer


@contextmanager
def eval_mode(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block a module is in eval mode; afterwards each of its parts is in the mode it was in before.

    A model that is a plain function has no mode and stays as it is.
    """
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        with suppress(NotImplementedError):  # an exported model stays in the mode in which it was exported
            model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def record(
    model: nn.Module,
    names: Mapping[str, nn.Module],
    rewrite: Mapping[str, Rewrite] | None = None,
    *,
    tokens: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Within the block, every forward pass puts the outputs of the named layers into the yielded dict.

    Maps are recorded as (B, C, h, w), also those of a layer that outputs (B, h, w, C). Of a layer that outputs a tuple,
    the first part is recorded, if no other has as many axes.

    Args:
        model: the model whose layers these are, and which runs within the block.
        names: the layers, by keys of your choice.
        rewrite: functions of what is recorded of a layer, by the layer's key; the rest of the model sees the result
            instead.
        tokens: whether to accept tokens (B, N, D) as well as feature maps.

    The rest of the model gets a copy, so that an in-place activation does not change what was recorded.

    Raises:
        ValueError: within a forward pass: a layer outputs neither, or not one row per image, or runs twice.
    """
    recorder = _Recorder(model, rewrite or {}, tokens)
    handles = [module_of(layer).register_forward_hook(recorder.hook(key, layer)) for key, layer in names.items()]
    handles.append(model.register_forward_pre_hook(recorder.start, with_kwargs=True))
    handles.append(model.register_forward_hook(recorder.finish, always_call=True))
    follows = any(isinstance(layer, Followed) for layer in names.values())
    try:
        with uncompiled(), _Activations(recorder) if follows else nullcontext():
            yield recorder.outputs
    finally:
        for handle in handles:
            handle.remove()


class _Recorder:
    """What was recorded of the last forward pass, and the hooks that record it."""

    def __init__(self, model: nn.Module, rewrite: Mapping[str, Rewrite], tokens: bool):
        self.model, self.rewrite = model, rewrite
        self.dimensions = (3, 4) if tokens else (4,)
        self.wanted = "(B, C, h, w) or tokens (B, N, D)" if tokens else "(B, C, h, w)"
        self.outputs: dict[str, Tensor] = {}
        self.recorded: set[str] = set()  # in this pass
        self.awaited: dict[str, tuple[Followed, Tensor]] = {}  # outputs whose activation is still to come
        self.arguments: tuple[Any, ...] = ()
        self.idle = self.measures = False

    def start(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.measures:
            self.recorded, self.awaited, self.idle = set(), {}, False
            self.arguments = (*args, *kwargs.values())

    def finish(self, *_: object) -> None:
        # What runs after the pass is activation checkpointing, which computes a part of it again.
        self.idle = not self.measures

    def hook(self, key: str, layer: nn.Module) -> Callable[..., Any]:
        def hook(_: nn.Module, __: object, output: Any) -> Any:
            part = self.see(key, layer, main_part(output))
            return (part, *output[1:]) if _has_main_part(output) else part

        return hook

    def see(self, key: str, layer: nn.Module, output: Any) -> Any:
        """Record what a module made, now or once its activation function has run; return what the rest is to see."""
        if self.idle or self.measures:
            return output.clone() if isinstance(output, Tensor) else output
        self._check(key, layer, output)
        if not isinstance(layer, Followed):
            return self.keep(key, layer, output)
        self.awaited[key] = layer, output.clone()
        return self.awaited[key][1]

    def keep(self, key: str, layer: nn.Module, output: Tensor) -> Tensor:
        """Record an output, and return what the rest of the model is to see."""
        if output.ndim == 4 and self._is_channels_last(layer, output):
            return self._keep_map(key, output.movedim(3, 1)).movedim(1, 3)
        return self._keep_map(key, output)

    def _keep_map(self, key: str, features: Tensor) -> Tensor:
        self.outputs[key] = features
        return self.rewrite[key](features) if key in self.rewrite else features.clone()

    def _check(self, key: str, layer: nn.Module, output: Any) -> None:
        name = repr(name_of(self.model, layer) or key)
        if not isinstance(output, Tensor) or output.ndim not in self.dimensions:
            got = describe(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ValueError(f"`layer` {name} must output a feature map {self.wanted}, but got {got}.")
        if key in self.recorded:
            raise ValueError(f"`layer` {name} must run once in a forward pass, but it runs again; name one that does.")
        self.recorded.add(key)
        rows = next((a.shape[0] for a in self.arguments if isinstance(a, Tensor) and a.ndim), output.shape[0])
        if output.shape[0] != rows:
            rule = f"output one row for each of the {rows} images"
            raise ValueError(f"`layer` {name} must {rule}, but got {describe(output)}.")

    def _is_channels_last(self, layer: nn.Module, output: Tensor) -> bool:
        images = next((a for a in self.arguments if isinstance(a, Tensor) and a.ndim == 4), None)
        if images is None:
            return False
        size = (images.shape[2], images.shape[3])
        if is_surely_channels_first(output.shape, size):
            return False
        known = _LAST.setdefault(module_of(layer), {})
        case = (*output.shape[1:], *size)
        if case not in known:
            known[case] = self._measure(layer, images)
        return known[case]

    def _measure(self, layer: nn.Module, images: Tensor) -> bool:
        """Run the model up to the layer once more, with plain functions, on one image."""
        others = (a for a in self.arguments if a is not images)
        rows = [a[:1] if isinstance(a, Tensor) and a.shape[:1] == images.shape[:1] else a for a in others]
        self.measures = True
        try:
            exact = torch.autocast(images.device.type, enabled=False)
            with torch.inference_mode(False), torch.enable_grad(), exact, all_kept():
                leaf = torch.ones_like(images[:1], requires_grad=True)
                return is_channels_last(run_plainly(unwrap(self.model), layer, leaf, *rows)[0], leaf)
        finally:
            self.measures = False


_LAST: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], bool]] = WeakKeyDictionary()


def run_plainly(model: Callable[..., Any], layer: nn.Module, image: Tensor, *others: Any) -> list[Any]:
    """Return the layer's outputs, one for every run of the layer, as the plain version of the model computes them.

    What the model does behind the layer does not matter: an error there counts only if the layer did not run.
    """
    outputs: list[Any] = []
    handle = module_of(layer).register_forward_hook(lambda _, __, output: outputs.append(main_part(output)))
    try:
        with eval_mode(model), uncompiled(), PlainFunctions():
            model(image, *others)
    except Exception:
        if not outputs:
            raise
    finally:
        handle.remove()
    return outputs


class _Activations(TorchFunctionMode):
    """Records the results of the activation functions that layers are followed by."""

    def __init__(self, recorder: _Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function; record its result where it is awaited."""
        result, awaited = func(*args, **kwargs or {}), self.recorder.awaited
        name = getattr(func, "__name__", "").rstrip("_")
        for key, (layer, output) in awaited.items():
            if args and args[0] is output and name == layer.function:
                del awaited[key]
                return self.recorder.keep(key, layer, result)
        return result


def name_of(model: nn.Module, layer: nn.Module) -> str | None:
    """Return the layer's dotted name in the innermost model, None for a layer of another model."""
    after = f":{layer.function}" if isinstance(layer, Followed) else ""
    found = (name for name, module in unwrap(model).named_modules() if module is module_of(layer))
    return next((name + after for name in found), None)


@contextmanager
def frozen_batch_norm(model: object) -> Iterator[None]:
    """Within the block, forward passes in train mode leave BatchNorm's running statistics as they were."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    tracking = [
        m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats and m.training
    ]
    saved = [{k: v.clone() for k, v in m.named_buffers(recurse=False)} for m in tracking]
    try:
        yield
    finally:
        for module, buffers in zip(tracking, saved, strict=True):
            for name, buffer in buffers.items():
                getattr(module, name).copy_(buffer)
