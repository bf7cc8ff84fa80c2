"""Why a model failed: the usual reasons, in words, where torch speaks of its own kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import describe
from sibx.models.finding import own_sizes
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap

USUAL = 64  # pixels; networks that are made for photographs halve the side up to five times


@contextmanager
def say_why(model: Any, images: Tensor, argument: str = "images") -> Iterator[None]:
    """Run the block; where the model fails on images that do not fit it, say so.

    Args:
        model: the model that runs in the block; a plain function has nothing to compare the images with.
        images: the images that it gets.
        argument: what the caller calls them.

    Raises:
        ValueError: instead of an error that does not name an argument: the images are not 4-D for a model with
            convolutions, have another dtype, lie on another device, or have other channels than the model's weights, or
            another size than the one that the model names and takes, or are too small for it.
    """
    try:
        yield
    except Exception as error:  # a model may raise any error
        rule = _broken_rule(model, images) if _is_about_tensors(error) else None
        rule = rule or (None if _is_of_another_kind(error) else _rule_of_size(model, images))
        if rule is None:
            raise
        raise ValueError(f"`{argument}` must {rule}, but got {describe(images)} on {images.device}.") from error


def _is_about_tensors(error: Exception) -> bool:
    """Whether torch may have raised it because tensors do not fit; an error of the model's own, or of sibx, is not."""
    text = str(error)
    if _is_of_another_kind(error):
        return False
    return any(word in text.lower() for word in ("type", "device", "dimension", "shape", "size", "expected", "index"))


def _is_of_another_kind(error: Exception) -> bool:
    """Whether it says itself which argument is wrong, or is no matter of arguments."""
    return str(error).startswith("`") or isinstance(error, torch.OutOfMemoryError)


def _rule_of_size(model: Any, images: Tensor) -> str | None:
    """Return which size the images must have, None where the model names none or fails on that as well."""
    if not isinstance(model, nn.Module) or images.ndim != 4:
        return None
    inner = unwrap(model)
    size = next(own_sizes(inner), None)
    if size is None:
        return _rule_of_smallness(inner, images)
    if size == tuple(images.shape[2:]):
        return None
    if _takes(inner, images[:1]) or not _takes(inner, images.new_zeros(1, images.shape[1], *size)):
        return None  # it is not the size, or not the size alone
    height, width = size
    return (
        f"be {height} x {width} pixels, as the model takes them (fit_picture brings pictures to a size, and maps back)"
    )


def _rule_of_smallness(model: nn.Module, images: Tensor) -> str | None:
    """Return that the images are too small, where the model fails on them and takes images of the usual size."""
    if min(images.shape[2:]) >= USUAL or _takes(model, images[:1]):
        return None
    usual = _takes(model, images.new_zeros(1, images.shape[1], USUAL, USUAL))
    return "have more pixels: the model shrinks them to nothing" if usual else None


def _takes(model: nn.Module, images: Tensor) -> bool:
    try:
        with eval_mode(model), torch.no_grad():
            model(images)
    except Exception:  # of any kind, it does not
        return False
    return True


def _broken_rule(model: Any, images: Tensor) -> str | None:
    """Return the rule that the images break, None if they keep all."""
    if not isinstance(model, nn.Module):
        return None
    weight = next((p for p in model.parameters() if p.is_floating_point()), images)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and images.ndim != 4:
        batch = ", a batch (images.unsqueeze(0) makes one of one image)" if images.ndim == 3 else ""
        return f"be images (B, C, H, W){batch}"
    if images.dtype != weight.dtype:
        return f"have the dtype of the model's weights, {str(weight.dtype).removeprefix('torch.')}"
    if images.device != weight.device:
        return f"lie on the model's device, {weight.device}"
    if first is not None and images.shape[1] != first.in_channels:
        return f"have the {first.in_channels} channels of the model's first convolution, (B, C, H, W)"
    return None
