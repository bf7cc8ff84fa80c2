"""FullGrad (Srinivas and Fleuret, NeurIPS 2019): the input's and all biases' parts of the score."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_images, require
from sibx.attribution.cotangents import differentiate_inputs
from sibx.attribution.safe import SafeAttribution, select_scores

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, *NORMS)  # whose biases have places on the image


class FullGrad(SafeAttribution):
    """FullGrad: |x g| plus |b g_b| of every convolution and BatchNorm, scaled to [0, 1] and drawn at the image's size.

    A network of piecewise linear parts is the sum ``x g + sum b g_b`` over the input and all its biases, with g_b the
    score's gradient for the output that the bias is added to. BatchNorm's bias is that of its linear map in eval mode.
    Transposed convolutions count, too. Every layer is scaled by its own range in the image; then channels and layers
    are added.

    Args:
        forward_func: the model, a ``torch.nn.Module`` with convolutions.

    Attributions (B, 1, H, W), at least 0, without a unit. Biases of linear layers and of convolutions along one
    or three axes have no place on the image; those inside an attention, LayerNorm or GroupNorm are not seen.

    Raises:
        ValueError: a model without biases in convolutions or BatchNorm, or inputs that are not one image tensor.

    Source: Srinivas and Fleuret, arXiv 1905.00780, equations 4 and 5.
    """

    def __init__(self, forward_func: Callable[..., Tensor]):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        super().__init__(forward_func)

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "FullGrad"

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        require(len(inputs) == 1, "inputs", "be one image tensor", len(inputs))
        (images,) = inputs
        check_images(images, "inputs")
        parts = self.parts(images, target, extra)
        size = images.shape[2:]
        return (sum((_drawn(p, size) for p in parts), torch.zeros_like(images[:, :1])),)

    def parts(self, images: Tensor, target: Any, extra: tuple[Any, ...] = ()) -> list[Tensor]:
        """Return x g, and b g_b of every layer that has a bias (B, C, h, w), whose sums are parts of the score.

        Args:
            images: images (B, C, H, W).
            target: the class to explain, an int for all images or one int per image.
            extra: further arguments of the model.
        """
        leaf = images if images.requires_grad else images.detach().requires_grad_()
        watch = _Watch()
        with watch.on(self.forward_func):
            outputs = run_forward(self.forward_func, leaf, None, extra or None)
            watch.idle = True
            kind = type(self.forward_func).__name__
            require(bool(watch.seen), "forward_func", "have biases in convolutions or BatchNorm", kind)
            score = select_scores(outputs, target, len(leaf)).sum()
            # Within the block: activation checkpointing runs layers again, which have to save as much as they did.
            gradients = differentiate_inputs(score, [leaf, *(output for _, output in watch.seen)])
        biases = [b.view(1, -1, 1, 1) for b, _ in watch.seen]
        return [leaf.detach() * gradients[0], *(b * g for b, g in zip(biases, gradients[1:], strict=True))]


class _Watch:
    """Notes the bias (C,) and the output of every layer that has one, at every run, until it is idle."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.idle = False

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Within the block, watch a model."""
        handles = [m.register_forward_hook(self._note) for m in model.modules() if isinstance(m, CONVOLUTIONS)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        bias = _bias(layer)
        if bias is not None and output.ndim == 4 and not self.idle:  # SyncBatchNorm takes every number of axes
            self.seen.append((bias.detach(), output))
        return output.clone()  # an activation in place would change what was noted


def _bias(layer: nn.Module) -> Tensor | None:
    """Return what a layer adds; of BatchNorm in eval mode also what its running mean takes off."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    if isinstance(layer, NORMS) and not layer.training and layer.running_mean is not None:
        assert layer.running_var is not None
        weight = 1 if layer.weight is None else layer.weight
        return (0 if bias is None else bias) - layer.running_mean * weight / (layer.running_var + layer.eps).sqrt()
    return bias


def _drawn(part: Tensor, size: torch.Size) -> Tensor:
    """Return |part| (B, C, h, w) scaled to [0, 1] in every image, summed over channels, at the image's size."""
    maps = part.abs()
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    scaled = (maps - low) / (high - low).where(high > low, 1)
    return F.interpolate(scaled.sum(1, keepdim=True), size, mode="bilinear")
