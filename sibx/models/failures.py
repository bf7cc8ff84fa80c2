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
        ValueError: instead of an error that does not name an argument: the images are not 4-D for a model with
            convolutions, or have another dtype, lie on another device, or have other channels than the model's weights.
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
