"""The background swap: the model sees every image a second time, with another image's background features."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sibx.models.alignment import Alignment
from sibx.models.layers import record
from sibx.models.layout import to_grid
from sibx.objectives.precision import full_precision, no_autocast
from sibx.runs.ranks import previous_rows

EPSILON = 1e-12  # smallest area: keeps the mean finite where there is no background, whose mean is then not used


class BackgroundSwap:
    """Lets the part of the model behind a layer see every image twice: as it is, and with another background.

    At the last layer the second version is ``a M + (1 - M) mean_background(a of the previous image)``, where only the
    global batch's images with an object and a background count. Feature maps of both versions are stacked into one
    batch, so that one forward pass gives both logits. Tokens usually have a residual path around the layer, on which
    nothing is stacked, so they need a second pass. Only patches are mixed; the tokens in front of them stay the
    image's own. Undefined pixels stay the image's own, too, and are not lent.
    """

    def __init__(
        self,
        masks: Tensor,
        modules: Mapping[str, nn.Module],
        alignment: Alignment,
        undefined: Tensor | None = None,
    ):
        self.masks, self.alignment = masks, alignment
        self.kept = masks if undefined is None else masks | undefined
        self.layer = dict([list(modules.items())[-1]])
        self.rewrites: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(self.layer, self._rewrite)
        self._tokens: Tensor | None = None

    def second_pass(self, model: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
        """Return the logits (2B, K) of both versions, given what the first pass returned."""
        if self._tokens is None:
            return logits
        rewrites: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(self.layer, self._swapped_tokens)
        with record(model, self.layer, rewrites, tokens=True):
            return torch.cat([logits, model(images)])

    def _rewrite(self, activations: Tensor) -> Tensor:
        with no_autocast(activations):
            mixed = self._mix(to_grid(full_precision(activations), (self.masks.shape[2], self.masks.shape[3])))
            mixed = mixed.to(activations.dtype)
            if activations.ndim == 4:
                return torch.cat([activations, mixed])
            patches = mixed.flatten(2).transpose(1, 2)
            self._tokens = torch.cat([activations[:, : -patches.shape[1]], patches], 1)
            return activations.clone()

    def _swapped_tokens(self, _: Tensor) -> Tensor:
        assert self._tokens is not None
        return self._tokens

    def _mix(self, grid: Tensor) -> Tensor:
        kept = self.alignment.pool(self.kept.to(grid.dtype), (grid.shape[2], grid.shape[3]))
        outside = 1 - kept
        room = outside.sum((2, 3), keepdim=True)
        background = (grid * outside).sum((2, 3), keepdim=True) / room.clamp(min=EPSILON)
        # Without a mask the object would count as background; without a background pixel there is no mean, whatever
        # the rounding of averages leaves of it.
        lends = self.masks.flatten(1).any(1) & ~self.kept.flatten(1).all(1) & (room.flatten() > 0)
        return grid * kept + outside * previous_rows(background, among=lends)
