"""XGrad-CAM (Fu et al., BMVC 2020)."""

import torch
from torch import Tensor

from sibx.attribution.cam import GradientCAM


class XGradCAM(GradientCAM):
    """XGrad-CAM: relu(sum_k w_k a_k) with w_k = sum_ij g_ij a_ij / sum_ij a_ij, gradients weighted by activations.

    A channel whose activations sum to zero has weight 0. Attributions (B, 1, H, W), at least 0.

    Source: Fu et al., arXiv 2008.02312, equation 8.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "XGrad-CAM"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return relu(sum_k w_k a_k)."""
        total = activations.sum((2, 3), keepdim=True)
        product = (gradients * activations).sum((2, 3), keepdim=True)
        weights = torch.where(total != 0, product / total.where(total != 0, 1), 0)
        return (weights * activations).sum(1, keepdim=True).relu()
