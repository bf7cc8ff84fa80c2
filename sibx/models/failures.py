"""Why a model failed: the usual reasons, in words, where torch speaks of its own kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import describe


@contextmanager
def say_why(model: Any, images: Tensor, argument: str = "images") -> Iterator[None]:
    """Run the block; where the model fails on images that do not fit it, say so.

    Args:
        model: the model that runs in the block; a plain function has nothing to compare the images with.
        images: the images that it gets.
        argument: what the caller calls them.

    Raises:
        ValueError: instead of an error that does not name an argument: the images lack the dimension of the batch, or
            have another dtype, or lie on another device, than the model's weights.
    """
    try:
        yield
    except Exception as error:  # a model may raise any error
        rule = _broken_rule(model, images) if _is_about_tensors(error) else None
        if rule is None:
            raise
        raise ValueError(f"`{argument}` must {rule}, but got {describe(images)} on {images.device}.") from error


def _is_about_tensors(error: Exception) -> bool:
    """Whether torch may have raised it because tensors do not fit; an error of the model's own, or of sibx, is not."""
    text = str(error)
    if text.startswith("`") or isinstance(error, torch.OutOfMemoryError):
        return False
    return any(word in text.lower() for word in ("type", "device", "dimension", "shape", "size", "expected", "index"))


def _broken_rule(model: Any, images: Tensor) -> str | None:
    """Return the rule that the images break, None if they keep all."""
    if not isinstance(model, nn.Module):
        return None
    weight = next((p for p in model.parameters() if p.is_floating_point()), images)
    if images.ndim == 3 and any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return "be images (B, C, H, W), a batch (images.unsqueeze(0) makes one of one image)"
    if images.dtype != weight.dtype:
        return f"have the dtype of the model's weights, {str(weight.dtype).removeprefix('torch.')}"
    if images.device != weight.device:
        return f"lie on the model's device, {weight.device}"
    return None
