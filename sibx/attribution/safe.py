"""The guard around every method: a call changes nothing outside."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from sibx._captum import run_forward, select_targets
from sibx._checks import check_integer, check_logits, check_values, output_kind, require
from sibx.attribution._modes import warn_of_train_mode
from sibx.models.differentiable import twice_differentiable, uncompiled
from sibx.models.failures import say_why
from sibx.models.layers import frozen_batch_norm

Tensors = Tensor | tuple[Tensor, ...]


class SafeAttribution(GradientAttribution):
    """A Captum attribution whose call changes nothing outside; subclasses implement ``_explain`` only.

    After a call, even one that raised an exception, these are as before: ``requires_grad`` and ``.grad`` of inputs and
    parameters, hooks, the train / eval mode, the caller's grad mode and BatchNorm's running statistics. Results are
    detached. Inputs made under ``torch.inference_mode`` are copied, so they work too.

    A subclass may offer ``create_graph=True``. Results then stay differentiable with respect to the parameters, and to
    the inputs where these require grad, so that explanations can be put into a loss.
    """

    create_graph = False

    @log_usage()
    def attribute(
        self,
        inputs: Tensors,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Tensors:
        """Explain the model's output for the inputs.

        Args:
            inputs: a floating-point tensor with B rows, or a tuple of such tensors; images are (B, C, H, W).
            target: the class to explain, in any form Captum knows: int, list or tensor of B ints, tuple(s) for outputs
                of more dimensions, None for one output per row. NumPy integers are accepted. Several classes per image
                at once: a list of B lists of T classes each, or ``"all"`` for all K columns of an output (B, K).
            additional_forward_args: further arguments of the model, passed after the inputs.
            internal_batch_size: largest number of rows in one forward pass; None = all rows in one pass.

        Returns:
            Attributions, a tensor for a tensor and a tuple for a tuple (a 1-tuple too); signed unless the method's
            class says otherwise, in the method's own units. With several classes per image the second dimension is T
            (or K).

            A row whose input is not finite gets NaN.

        Raises:
            ValueError: inputs that are not floating-point tensors, a bool target, lists of different lengths, or
                ``"all"`` for an output that is not (B, K).
        """
        tensors = _check_inputs(inputs)
        extra = _as_extra(additional_forward_args)
        if _names_several(target):
            columns = self._columns(target, tensors, extra)
            parts = [self._attribute(tensors, column, extra, internal_batch_size) for column in columns]
            attributions = tuple(torch.stack(part, 1) for part in zip(*parts, strict=True))
        else:
            attributions = self._attribute(tensors, format_target(target), extra, internal_batch_size)
        return attributions if isinstance(inputs, tuple) else attributions[0]

    def _attribute(
        self, tensors: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...], internal_batch_size: int | None
    ) -> tuple[Tensor, ...]:
        """Compute attributions for one class per image."""
        if not len(tensors[0]):
            return self._empty(tensors)
        warn_of_train_mode(self.forward_func)
        runnable = twice_differentiable if self.create_graph else uncompiled
        failing = say_why(self.forward_func, tensors[0], "inputs")
        with failing, grad_enabled(), frozen_batch_norm(self.forward_func), runnable():
            parts = [
                self._explain(*chunk)
                for chunk in _split_rows(tensors, target, extra, internal_batch_size, self.create_graph)
            ]
        joined = tuple(
            (rows[0] if len(rows) == 1 else torch.cat(rows)).contiguous() for rows in zip(*parts, strict=True)
        )
        if not self.create_graph:
            joined = tuple(a.detach() for a in joined)
        return undefined_where_broken(tensors, joined)

    def _columns(self, target: Any, tensors: tuple[Tensor, ...], extra: tuple[Any, ...]) -> list[Any]:
        """Return several classes per image as a list of targets with one class per image each."""
        if isinstance(target, str):
            require(target == "all", "target", 'be an integer class index, one per image, or "all"', target)
            arguments = (*tensors, *extra)
            if not len(tensors[0]):  # an empty batch: one row of zeros tells the number of classes
                rowless = [isinstance(a, Tensor) and a.shape[:1] == (0,) for a in arguments]
                arguments = tuple(
                    a.new_zeros(1, *a.shape[1:]) if r else a for a, r in zip(arguments, rowless, strict=True)
                )
            with torch.no_grad(), frozen_batch_norm(self.forward_func):
                outputs = run_forward(self.forward_func, arguments, None)
            check_logits(outputs, len(arguments[0]), "forward_func")
            return list(range(outputs.shape[1]))
        lengths = {len(row) for row in target}
        require(len(lengths) == 1 and min(lengths) > 0, "target", "name equally many classes for every image", target)
        require(len(target) == len(tensors[0]), "target", f"hold {len(tensors[0])} lists, one per image", target)
        return [format_target(list(column)) for column in zip(*target, strict=True)]

    @abstractmethod
    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Return attributions of a tuple of new leaf tensors that require grad; called in grad mode."""

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the attributions of an empty batch."""
        return tuple(torch.zeros_like(t) for t in inputs)


def undefined_where_broken(inputs: tuple[Tensor, ...], attributions: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return attributions with NaN in every row whose inputs are not finite.

    Some backward passes (ReLU) turn NaN into finite zeros; a broken image must not look explained. It is found without
    waiting for the device: 0 x is NaN where x is not finite.
    """
    sums = torch.stack([(0 * t.detach()).reshape(t.shape[0], -1).sum(1) for t in inputs]).sum(0)  # (B,)
    broken = [sums.isnan().to(a.device).view(-1, *[1] * (a.ndim - 1)) for a in attributions]
    return tuple(torch.where(b, torch.nan, a) for b, a in zip(broken, attributions, strict=True))


def pick_rows(values: Any, rows: Tensor, batch: int) -> Any:
    """Return the part of a target, or of a tuple of extra arguments, that belongs to the given rows of a batch.

    A list or a tensor with one entry per row is indexed; anything else is shared by all rows and returned as it is.
    """
    if isinstance(values, tuple):
        return tuple(_at(v, rows) if isinstance(v, Tensor) and v.shape[:1] == (batch,) else v for v in values)
    if not isinstance(values, list) and not (isinstance(values, Tensor) and values.numel() > 1):
        return values
    require(len(values) == batch, "target", f"hold {batch} entries, one per image", values)
    return [values[row] for row in rows.tolist()] if isinstance(values, list) else _at(values, rows)


def _at(values: Tensor, rows: Tensor) -> Tensor:
    return values[rows.to(values.device, non_blocking=True)]


def select_scores(outputs: object, target: Any, batch: int) -> Tensor:
    """Return the target's score of every row, picked by Captum's rules; errors say what is wrong."""
    outputs = check_outputs(outputs)
    require(
        target is not None or outputs.numel() == batch,
        "target",
        "be given for a model with several outputs",
        None,
    )
    if target is None:
        return outputs
    entries = len(target) if isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1) else batch
    require(entries == batch, "target", f"hold {batch} entries, one per image", target)
    _check_target(target, tuple(outputs.shape))
    scores: Tensor = select_targets(outputs, target)
    require(scores.numel() == batch, "target", f"pick one score per row of the output {tuple(outputs.shape)}", target)
    return scores


def check_outputs(outputs: object) -> Tensor:
    """Require what a model returned to be a tensor, and return it."""
    if not isinstance(outputs, Tensor):
        raise ValueError(f"`forward_func` must return a tensor of scores, but got {output_kind(outputs)}")
    return outputs


def _check_target(target: Any, shape: tuple[int, ...]) -> None:
    """Require the places that a target names to lie inside an output of this shape.

    A tensor on another device is not looked into, which would wait for the device.
    """
    if isinstance(target, Tensor):
        target = target.tolist() if target.device.type == "cpu" else None
    for place in target if isinstance(target, list) else [target]:
        indices = () if place is None else place if isinstance(place, tuple) else (place,)
        rule = f"have at most {max(len(shape) - 1, 0)} indices for the model's output of shape {shape}"
        require(len(indices) < len(shape), "target", rule, target)
        for index, size in zip(indices, shape[1:], strict=False):
            require(0 <= index < size, "target", f"lie in 0..{size - 1}, the model's classes", index)


@contextmanager
def grad_enabled() -> Iterator[None]:
    """Within the block gradients are computed, even if the caller is in ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def format_target(target: Any) -> Any:
    """Turn NumPy integers and arrays into Captum's target forms; refuse bools and floats."""
    if isinstance(target, np.ndarray):
        target = torch.from_numpy(target)
    if isinstance(target, np.generic):
        target = target.item()
    if isinstance(target, list | tuple):
        nested = any(isinstance(t, list) for t in target)
        require(not nested, "target", "be one class per image: several need a method's attribute", target)
        return type(target)(format_target(t) for t in target)
    if isinstance(target, Tensor):
        good = not target.is_floating_point() and target.dtype != torch.bool
    else:
        good = target is None or (isinstance(target, Integral) and not isinstance(target, bool))
    require(good, "target", "be an integer class index (or one per image)", target)
    if isinstance(target, Tensor):
        check_values(target, "target")
        require(target.ndim < 2, "target", "be one class, or a row of one per image", target)
    return target


def _names_several(target: Any) -> bool:
    return isinstance(target, str) or (isinstance(target, list) and bool(target) and isinstance(target[0], list))


def _check_inputs(inputs: Tensors) -> tuple[Tensor, ...]:
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        good = isinstance(tensor, Tensor) and tensor.is_floating_point()
        require(good, "inputs", "be a floating-point tensor or a tuple of them", tensor)
    return tensors


def _as_extra(additional_forward_args: Any) -> tuple[Any, ...]:
    if additional_forward_args is None:
        return ()
    return additional_forward_args if isinstance(additional_forward_args, tuple) else (additional_forward_args,)


def _split_rows(
    tensors: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...], size: int | None, create_graph: bool
) -> Iterator[tuple[tuple[Tensor, ...], Any, tuple[Any, ...]]]:
    """Yield inputs that require grad, targets and extra arguments, of at most ``size`` rows each."""
    batch = len(tensors[0])
    check_integer("internal_batch_size", 1 if size is None else size, 1)
    for start in range(0, batch, size or batch):
        part = slice(start, start + (size or batch))
        rows = torch.arange(batch)[part]
        leaves = tuple(t[part] if create_graph and t.requires_grad else _leaf(t[part]) for t in tensors)
        yield leaves, pick_rows(target, rows, batch), pick_rows(extra, rows, batch)


def _leaf(tensor: Tensor) -> Tensor:
    """Return a new leaf tensor that requires grad; ``requires_grad`` of the caller's tensor never changes."""
    return (tensor.clone() if tensor.is_inference() else tensor.detach()).requires_grad_()
