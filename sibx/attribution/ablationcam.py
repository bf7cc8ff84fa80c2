"""Ablation-CAM (Desai and Ramaswamy, WACV 2020)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sibx.attribution.base import select_scores
from sibx.attribution.cam_base import CAM
from sibx.models.layers import to_grid


class AblationCAM(CAM):
    """Ablation-CAM: relu(sum_k w_k a_k) with w_k = (z - z_k) / z, the share of the score lost without channel k.

    z_k is the target's score with channel k of the layer set to zero. Where z = 0 the map is zero. No gradients, but
    one forward pass of the batch per channel.

    Arguments and errors as ``CAM``. Attributions (B, 1, H, W), at least 0.

    Source: Desai and Ramaswamy, WACV 2020, equations 2 and 3.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Ablation-CAM"

    @torch.no_grad()
    def _map(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        batch = len(inputs[0])
        outputs, features = self._run(inputs, extra)
        activations = to_grid(features, (inputs[0].shape[2], inputs[0].shape[3]))
        clean = select_scores(outputs, target, batch).reshape(-1)
        losses = []
        for k in range(activations.shape[1]):
            outputs, _ = self._run(inputs, extra, {"layer": _without(k)})
            losses.append(clean - select_scores(outputs, target, batch).reshape(-1))
        share = torch.stack(losses, 1) / clean.where(clean != 0, torch.inf)[:, None]
        return torch.einsum("bc,bchw->bhw", share, activations).unsqueeze(1).relu()


def _without(channel: int) -> Callable[[Tensor], Tensor]:
    """A rewrite of a layer's output: one channel set to zero."""

    def rewrite(activations: Tensor) -> Tensor:
        ablated = activations.clone()
        ablated.select(1 if activations.ndim == 4 else 2, channel).zero_()
        return ablated

    return rewrite
