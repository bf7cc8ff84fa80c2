"""Grad-CAM++ (Chattopadhay et al., WACV 2018)."""

import torch
from torch import Tensor

from sibx.attribution.cam import GradientCAM


class GradCAMPlusPlus(GradientCAM):
    """Grad-CAM++: relu(sum_k w_k a_k) with w_k = sum_ij alpha_ij^k relu(g_ij^k).

    ``alpha = g^2 / (2 g^2 + g^3 sum_ab a_ab)``, equation 19 for Y = exp(z_t). Its factor exp(z_t) cancels in
    alpha; as a factor of the whole map it is left out, since it only sets the scale and overflows. alpha = 0 at g = 0.

    Attributions (B, 1, H, W), at least 0. Source: Chattopadhay et al., arXiv 1710.11063, equations 9 and 19.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Grad-CAM++"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return relu(sum_k w_k a_k) with the weights of equation 19."""
        total = activations.sum((2, 3), keepdim=True)
        # g^2 is divided out: alpha = 1 / (2 + g sum a), which does not underflow for small gradients.
        denominator = 2 + gradients * total
        usable = (gradients != 0) & (denominator != 0)
        alpha = torch.where(usable, 1 / denominator.where(usable, 1), 0)
        weights = (alpha * gradients.relu()).sum((2, 3), keepdim=True)
        return (weights * activations).sum(1, keepdim=True).relu()
