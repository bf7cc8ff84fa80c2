"""Occlusion (Zeiler and Fergus, ECCV 2014), through Captum."""

from collections.abc import Callable
from typing import Any

import torch
from captum import attr as captum
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_images, check_integer, check_range
from sibx.attribution.safe import SafeAttribution, select_scores


class Occlusion(SafeAttribution):
    """The score lost when a square window is set to zero, averaged over the windows that cover a pixel; signed.

    Zero is the data set's mean for images normalized by it. All channels of a window are set to zero together.

    Args:
        forward_func: the model, or any function of the inputs.
        window: side of the window as a share of the image's shorter side, in (0, 1].
        stride: step from one window to the next, as a share of the window, in (0, 1].
        windows_per_pass: number of windows in one forward pass of the batch.

    Raises:
        ValueError: a share out of range, or inputs that are not images (B, C, H, W).

    Source: Zeiler and Fergus, arXiv 1311.2901, through ``captum.attr.Occlusion``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        window: float = 0.15,
        stride: float = 0.5,
        windows_per_pass: int = 1,
    ):
        super().__init__(forward_func)
        check_range("window", window, 1e-6, 1)
        check_range("stride", stride, 1e-6, 1)
        check_integer("windows_per_pass", windows_per_pass, 1)
        self.window, self.stride, self.windows_per_pass = window, stride, windows_per_pass

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        shapes, strides = [], []
        for images in inputs:
            check_images(images, "inputs")
            side = max(1, round(self.window * min(images.shape[2:])))
            step = max(1, round(self.stride * side))
            shapes.append((images.shape[1], side, side))
            strides.append((images.shape[1], step, step))
        with torch.no_grad():
            # Captum would take the scores of a segmentation for further images.
            select_scores(run_forward(self.forward_func, inputs, None, extra or None), target, len(inputs[0]))
            attributions = captum.Occlusion(self.forward_func).attribute(
                tuple(t.detach() for t in inputs),
                sliding_window_shapes=tuple(shapes),
                strides=tuple(strides),
                target=target,
                additional_forward_args=extra or None,
                perturbations_per_eval=self.windows_per_pass,
            )
        return tuple(a.to(t.dtype) for a, t in zip(attributions, inputs, strict=True))
