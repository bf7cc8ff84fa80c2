"""XGrad-CAM (Fu et al., BMVC 2020)."""

import torch
from torch import Tensor

from sibx.attribution.cam import GradientCAM


class XGradCAM(GradientCAM):
    """XGrad-CAM: relu(sum_k w_k a_k) with w_k = sum_ij g_ij a_ij / sum_ij a_ij, gradients weighted by activations.

    Here g = dz_t / da is the gradient of the target's score. A channel whose activations sum to zero has weight 0.

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
