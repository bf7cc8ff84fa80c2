"""Grad-CAM++ (Chattopadhay et al., WACV 2018)."""

import torch
from torch import Tensor

from sibx.attribution.cam import GradientCAM


class GradCAMPlusPlus(GradientCAM):
    """Grad-CAM++: relu(sum_k w_k a_k) with w_k = sum_ij alpha_ij^k relu(g_ij^k).

    ``alpha = g^2 / (2 g^2 + g^3 sum_ab a_ab)``, equation 19 for Y = exp(z_t), with g = dz_t / da. The factor exp(z_t)
    cancels in alpha; as a factor of the whole map it is left out, since it only sets the scale and can overflow.
    alpha = 0 at g = 0.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Chattopadhay et al., arXiv 1710.11063, equations 9 and 19.
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
