"""Checks of arguments: every error names the argument, the rule that it breaks, and the value that was given."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
LONG = 400  # characters of a value beyond which an error does not repeat it


def describe(value: object) -> str:
    """Return a value as text for an error message: an array by its type and shape, what is long by its type alone."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= LONG else f"a {type(value).__name__}"


def require(condition: bool, argument: str, rule: str, value: object) -> None:
    """Raise ``ValueError("`argument` must <rule>, but got <value>.")`` unless the condition holds."""
    if not condition:
        raise ValueError(f"`{argument}` must {rule}, but got {describe(value)}.")


def check_images(images: Tensor, argument: str = "images") -> None:
    """Require a floating-point tensor of shape (B, C, H, W) with at least one pixel."""
    good = isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point()
    require(good, argument, "be a floating-point tensor of shape (B, C, H, W)", images)
    _check_pixels(images, argument)


def check_heatmaps(heatmaps: Tensor, argument: str = "heatmaps") -> None:
    """Require a floating-point tensor of shape (B, 1, H, W) with at least one pixel."""
    good = isinstance(heatmaps, Tensor) and heatmaps.ndim == 4 and heatmaps.shape[1] == 1
    require(
        good and heatmaps.is_floating_point(),
        argument,
        "be a floating-point tensor of shape (B, 1, H, W)",
        heatmaps,
    )
    _check_pixels(heatmaps, argument)


def _check_pixels(images: Tensor, argument: str) -> None:
    require(images.shape[1:].numel() > 0, argument, "have at least one channel and one pixel", images)
    check_values(images, argument)


def check_values(tensor: Tensor, argument: str) -> None:
    """Require a tensor on a device that holds values."""
    require(tensor.device.type != "meta", argument, "hold values, as tensors on meta do not", tensor)


def check_device(tensor: Tensor, like: Tensor, argument: str) -> None:
    """Require a tensor on the device of another one."""
    require(tensor.device == like.device, argument, f"lie on {like.device} as the others do", str(tensor.device))


def check_masks(masks: Tensor, like: Tensor, argument: str = "masks", count: int | None = None) -> None:
    """Require a bool tensor of shape (B, 1, H, W) with the spatial size of ``like``, and so many rows; None = its own.

    A number says that images have several labels.
    """
    expected = (like.shape[0] if count is None else count, 1, *like.shape[2:])
    good = isinstance(masks, Tensor) and masks.dtype == torch.bool and tuple(masks.shape) == expected
    each = "" if count is None else ", one mask per image and class present"
    require(good, argument, f"be a bool tensor of shape {expected}{each}", masks)
    check_values(masks, argument)
    check_device(masks, like, argument)


def check_same_batch(like: Tensor, **tensors: Tensor) -> None:
    """Require every keyword tensor to have as many rows as ``like``."""
    for argument, tensor in tensors.items():
        good = isinstance(tensor, Tensor) and tensor.shape[:1] == like.shape[:1]
        require(good, argument, f"have {like.shape[0]} rows, one per image", tensor)
        check_values(tensor, argument)


def check_labels(labels: Tensor, logits: Tensor, argument: str = "labels") -> None:
    """Require integer class indices of shape (B,) inside the K columns of the logits (B, K)."""
    check_indices(labels, argument)
    check_same_batch(logits, **{argument: labels})
    low, high = torch.stack(labels.aminmax()).tolist() if labels.numel() else (0, 0)  # one wait for the device
    require(
        low >= 0 and high < logits.shape[1],
        argument,
        f"lie in 0..{logits.shape[1] - 1}, the model's classes",
        (low, high),
    )


def check_indices(indices: Tensor, argument: str) -> None:
    """Require integers of shape (B,)."""
    integers = isinstance(indices, Tensor) and not (indices.is_floating_point() or indices.dtype == torch.bool)
    require(integers and indices.ndim == 1, argument, "be an integer tensor of shape (B,)", indices)
    check_values(indices, argument)


def check_logits(logits: object, batch: int, argument: str = "model") -> None:
    """Require the model's output to be one row of class scores (B, K) per image."""
    good = isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[0] == batch
    if not good:
        rule = f"return logits of shape (B, K) with B = {batch}"
        raise ValueError(f"`{argument}` must {rule}, but got {output_kind(logits)}")


def output_kind(output: object) -> str:
    """Return what a model returned, as the end of an error message: how to read it if it is not a tensor."""
    if isinstance(output, Tensor):
        return f"{describe(output)}."
    return f"a {type(output).__name__}. sibx.models.Scored(model, ...) reads scores from any output."


def check_explained(heatmaps: object, images: Tensor, argument: str = "explain") -> Tensor:
    """Require that an explaining function returned heatmaps (B, 1, H, W), one per image; return them detached."""
    expected = (len(images), 1, *images.shape[2:])
    if not (isinstance(heatmaps, Tensor) and heatmaps.is_floating_point() and tuple(heatmaps.shape) == expected):
        got = describe(heatmaps) if isinstance(heatmaps, Tensor) else f"a {type(heatmaps).__name__}"
        raise ValueError(f"`{argument}` must return floating-point heatmaps of shape {expected}, but got {got}.")
    return heatmaps.detach()


def check_case(images: Tensor, heatmaps: Tensor, targets: Tensor, argument: str = "heatmaps") -> None:
    """Require images, and one heatmap of the same size and one target for each of them."""
    check_images(images)
    check_heatmaps(heatmaps, argument)
    check_same_batch(images, **{argument: heatmaps}, targets=targets)
    check_indices(targets, "targets")
    size = tuple(images.shape[2:])
    require(tuple(heatmaps.shape[2:]) == size, argument, f"be of size {size}", heatmaps)
    check_device(heatmaps, images, argument)


def check_range(argument: str, value: float, low: float, high: float = float("inf")) -> None:
    """Require ``low <= value <= high``."""
    require(isinstance(value, Real), argument, "be a number", value)
    bound = f"lie in [{low:g}, {high:g}]" if high != float("inf") else f"be at least {low:g}"
    require(low <= value <= high, argument, bound, value)


def check_finite(argument: str, value: float, low: float) -> None:
    """Require a finite number of at least ``low``."""
    check_range(argument, value, low)
    require(value != float("inf"), argument, "be finite", value)


def check_integer(argument: str, value: object, low: int) -> None:
    """Require a whole number of at least ``low``; True and False are refused."""
    check_range(argument, _whole(argument, value), low)


def check_seed(argument: str, value: object) -> None:
    """Require a seed that torch takes: a whole number of 64 bits, with a sign or without."""
    rule = "be at least -2^63 and less than 2^64"
    require(-(2**63) <= _whole(argument, value) < 2**64, argument, rule, value)


def _whole(argument: str, value: object) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(whole, argument, "be a whole number", value)
    assert isinstance(value, Integral)
    return int(value)


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Require the value to be one of the named choices."""
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {', '.join(choices)}, but got {value!r}{_hint(value, choices)}.")


def listed(given: Any) -> list[Any]:
    """Return what was given, several or one alone, as a list; a word is one, not its letters."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def check_folder(argument: str, folder: str | Path | None, layout: str) -> Path:
    """Require an existing folder; the error shows the layout that was expected."""
    if folder is None or not Path(folder).is_dir():
        got = "None" if folder is None else f"{str(folder)!r}, which is not a folder"
        raise ValueError(f"`{argument}` must be a folder laid out as {layout}, but got {got}.")
    return Path(folder)


def look_up(argument: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``; an unknown name raises ValueError with the choices and the closest match."""
    check_choice(argument, name, tuple(table))
    return table[name]


def _hint(value: object, choices: tuple[str, ...]) -> str:
    close = get_close_matches(str(value), choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
