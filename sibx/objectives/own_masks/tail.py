"""The part of a model behind a layer, and what it predicts from masked features."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sibx._outputs import Output, pick, predicted
from sibx.models.alignment import Alignment
from sibx.models.finding import resolve_layer
from sibx.models.layers import record
from sibx.models.layout import to_grid


@dataclass(frozen=True, slots=True)
class Tail:
    """The part of a model behind a layer, for a batch of images.

    Attributes:
        model: the whole model, in eval mode.
        layer: name of the feature layer.
        images: images (B, C, H, W).
        alignment: where the layer's units lie on the image.
        output: what the logits are.
        labels: with several labels per image the one that is asked of every row, (B,) int64; None = the prediction.
    """

    model: nn.Module
    layer: str
    images: Tensor
    alignment: Alignment
    output: Output = "auto"
    labels: Tensor | None = None

    @torch.no_grad()
    def predict(self, masks: Tensor | None = None) -> Tensor:
        """Return the predicted classes (B,); with ``labels`` whether the asked one is predicted, (B,) bool.

        Args:
            masks: masks (B, 1, H, W) bool; averaged over the cells of the layer's units, they multiply its features, so
                that features outside become zero. None = features as they are.
        """
        rewrites: dict[str, Callable[[Tensor], Tensor]] = {}
        if masks is not None:
            rewrites[self.layer] = lambda activations: self._keep(activations, masks)
        with record(self.model, {self.layer: resolve_layer(self.model, self.layer)}, rewrites, tokens=True):
            logits = self.model(self.images)
        return predicted(logits, self.output) if self.labels is None else pick(logits, self.labels) > 0

    def _keep(self, activations: Tensor, masks: Tensor) -> Tensor:
        grid = to_grid(activations, (self.images.shape[2], self.images.shape[3]))
        pooled = self.alignment.pool(masks.to(grid.dtype), (grid.shape[2], grid.shape[3]))
        return _laid_like(activations, pooled) * activations


def _laid_like(activations: Tensor, mask: Tensor) -> Tensor:
    """Return a mask (B, 1, h, w) in the shape of a layer's output; it keeps the tokens in front of the patches."""
    if activations.ndim == 4:
        return mask
    patches = mask.flatten(2).transpose(1, 2)
    in_front = patches.new_ones(len(patches), activations.shape[1] - patches.shape[1], 1)
    return torch.cat([in_front, patches], 1)
