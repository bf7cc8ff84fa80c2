"""Score-CAM (Wang et al., CVPR Workshops 2020)."""

from typing import Any

import torch
import torch.nn.functional as F
from captum._utils.common import _run_forward
from torch import Tensor

from sibx.attribution.base import select_scores
from sibx.attribution.cam_base import CAM
from sibx.models.layers import to_grid


class ScoreCAM(CAM):
    """Score-CAM: relu(sum_k w_k a_k), w = softmax over channels of the target's score with channel k as a mask.

    Channel k, resized to the image and scaled to [0, 1] (a constant channel: 0), multiplies the image; w is the softmax
    of those scores over channels. The score of the empty image is the same for all of them and cancels in the softmax.
    No gradients, but one forward pass of the batch per channel.

    Arguments and errors as ``CAM``. Attributions (B, 1, H, W), at least 0. Masks multiply the first input, which must
    be an image.

    Source: Wang et al., arXiv 1910.01279, algorithm 1.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Score-CAM"

    @torch.no_grad()
    def _map(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        _, features = self._run(inputs, extra)
        activations = to_grid(features, (inputs[0].shape[2], inputs[0].shape[3]))
        scores = []
        for channel in activations.split(1, dim=1):
            masked = (
                inputs[0] * _unit_range(F.interpolate(channel, inputs[0].shape[2:], mode="bilinear")),
                *inputs[1:],
            )
            outputs = _run_forward(self.forward_func, masked, None, extra)
            scores.append(select_scores(outputs, target, len(inputs[0])).reshape(-1))
        weights = torch.stack(scores, 1).softmax(1)
        return torch.einsum("bc,bchw->bhw", weights, activations).unsqueeze(1).relu()


def _unit_range(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span == 0, 0, (maps - low) / span.where(span != 0, 1))
