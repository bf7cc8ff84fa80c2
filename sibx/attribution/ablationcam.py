"""Ablation-CAM (Desai and Ramaswamy, WACV 2020)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_integer
from sibx.attribution.cam import CAM, Layer, Merge, run_to_layers
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import pick_rows, select_scores
from sibx.models.alignment import Align
from sibx.models.layout import to_grid


class AblationCAM(CAM):
    """Ablation-CAM: relu(sum_k w_k a_k) with w_k = z - z_k, the score lost without channel k.

    z_k is the target's score with channel k of the layer set to zero. The published w_k is the share (z - z_k) / z.
    That only scales the map of an image, but turns it over where z is negative, and the zero of a logit has no meaning:
    softmax does not see a constant added to all of them. It needs no gradients. The network up to the layer runs once
    for many channels; the part behind the layer runs once for every image and channel that is not zero.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        channels_per_pass: number of channels of one image in one forward pass.

    Attributions (B, 1, H, W), at least 0, in units of the score times those of the activations.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, several layers with ``upsample=False``, or ``channels_per_pass`` below 1.

    Source: Desai and Ramaswamy, WACV 2020, equations 2 and 3.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
        merge: Merge = "mean",
        channels_per_pass: int = 128,
    ):
        super().__init__(forward_func, layer, upsample=upsample, align=align, merge=merge)
        check_integer("channels_per_pass", channels_per_pass, 1)
        self.channels_per_pass = channels_per_pass

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Ablation-CAM"

    @torch.no_grad()
    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        batch = len(inputs[0])
        outputs, features = self._run(inputs, extra)
        clean = select_scores(outputs, target, batch).reshape(-1, 1)
        size = image_size(inputs)
        maps = []
        for layer, feature in zip(self._layers(inputs, extra), features, strict=True):
            activations = to_grid(feature, size)
            without = clean.repeat(1, activations.shape[1])
            for row in range(batch):
                alive = activations[row].flatten(1).any(1).nonzero().squeeze(1)
                for start in range(0, len(alive), self.channels_per_pass):
                    channels = alive[start : start + self.channels_per_pass]
                    without[row, channels] = self._scores_without(layer, channels, row, inputs, target, extra)
            maps.append(torch.einsum("bc,bchw->bhw", clean - without, activations).unsqueeze(1).relu())
        return maps

    def _scores_without(
        self,
        layer: nn.Module,
        channels: Tensor,
        row: int,
        inputs: tuple[Tensor, ...],
        target: Any,
        extra: tuple[Any, ...],
    ) -> Tensor:
        """One image's score without each of the channels of the layer, (len(channels),)."""
        batch, count = len(inputs[0]), len(channels)

        def ablate(activations: Tensor) -> Tensor:
            copies = activations.expand(count, *activations.shape[1:]).clone()
            by_channel = copies if copies.ndim == 4 else copies.transpose(1, 2)
            by_channel[torch.arange(count), channels] = 0
            return copies

        def run(rows: Tensor) -> Any:
            arguments = pick_rows((*inputs, *extra), rows, batch)
            return run_to_layers(self.forward_func, [layer], arguments, (), {"0": ablate})[0]

        every_copy = torch.tensor([row]).expand(count)
        try:  # up to the layer one image; behind it one copy of the image per channel
            outputs = run(torch.tensor([row]))
            is_whole = len(outputs) == count
        except RuntimeError:
            is_whole = False
        if not is_whole:  # the part behind the layer depends on the batch size, or also uses something of batch size 1
            outputs = run(every_copy)
        return select_scores(outputs, pick_rows(target, every_copy, batch), count).reshape(-1)
