"""Score-CAM (Wang et al., CVPR Workshops 2020)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_integer
from sibx.attribution.cam import CAM, Layer, Merge
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import pick_rows, select_scores
from sibx.models.alignment import Align
from sibx.models.layout import to_grid


class ScoreCAM(CAM):
    """Score-CAM: relu(sum_k w_k a_k), w = softmax over channels of the target's score with channel k as a mask.

    Channel k, drawn at the image's size and scaled to [0, 1] (a constant channel: 0), multiplies the image; w is the
    softmax of those scores over channels. The score of the empty image is the same for all channels and cancels in the
    softmax. It needs no gradients, but one forward pass for every image and channel that is not constant.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        top_channels: number of channels per image that are tried, those whose activation varies most (standard
            deviation over positions); the others get no weight. None = all channels.
        images_per_pass: number of masked images in one forward pass.

    Attributions (B, 1, H, W), at least 0. Masks multiply the first input, which must be an image.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, several layers with ``upsample=False``, or ``top_channels`` or
            ``images_per_pass`` below 1.

    Source: Wang et al., arXiv 1910.01279, algorithm 1; ``top_channels`` is ours.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Layer | Sequence[Layer] = None,
        *,
        upsample: bool = True,
        align: Align = "receptive_field",
        merge: Merge = "mean",
        top_channels: int | None = None,
        images_per_pass: int = 32,
    ):
        super().__init__(forward_func, layer, upsample=upsample, align=align, merge=merge)
        check_integer("top_channels", 1 if top_channels is None else top_channels, 1)
        check_integer("images_per_pass", images_per_pass, 1)
        self.top_channels, self.images_per_pass = top_channels, images_per_pass

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Score-CAM"

    @torch.no_grad()
    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        _, features = self._run(inputs, extra)
        size = image_size(inputs)
        maps = []
        for layer, feature in zip(self._layers(inputs, extra), features, strict=True):
            activations = to_grid(feature, size)
            weights = self._weights(activations, layer, inputs, target, extra)
            maps.append(torch.einsum("bc,bchw->bhw", weights, activations).unsqueeze(1).relu())
        return maps

    def _weights(
        self, activations: Tensor, layer: nn.Module, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]
    ) -> Tensor:
        """The softmax over channels of the target's score under each channel's mask, (B, C)."""
        batch, channels = activations.shape[:2]
        spread = activations.flatten(2).std(2, correction=0)
        looked_at = torch.zeros_like(spread, dtype=torch.bool)
        looked_at.scatter_(1, spread.topk(min(self.top_channels or channels, channels)).indices, True)
        # A constant channel masks everything away: one pass with an empty image gives the score of all such channels.
        empty = run_forward(self.forward_func, (torch.zeros_like(inputs[0]), *inputs[1:]), None, extra)
        nothing = select_scores(empty, target, batch).reshape(-1, 1)
        scores = nothing.expand(-1, channels).masked_fill(~looked_at, -torch.inf)
        alive = (looked_at & (spread > 0)).nonzero()
        for start in range(0, len(alive), self.images_per_pass):
            rows, columns = alive[start : start + self.images_per_pass].unbind(1)
            arguments = pick_rows((*inputs, *extra), rows, batch)
            masks = _unit_range(self._draw(activations[rows, columns].unsqueeze(1), layer, inputs, extra))
            outputs = run_forward(self.forward_func, (arguments[0] * masks, *arguments[1:]), None)
            scores[rows, columns] = select_scores(outputs, pick_rows(target, rows, batch), len(rows)).reshape(-1)
        return scores.softmax(1)


def _unit_range(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span == 0, 0, (maps - low) / span.where(span != 0, 1))
