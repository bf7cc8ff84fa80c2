"""HiResCAM (Draelos and Carin, 2020)."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM


class HiResCAM(GradientCAM):
    """HiResCAM: relu(sum_k g_k a_k), the positive part of every position's first-order contribution.

    Here g_k = dz_t / da_k is the gradient of the target's score, and a_k is channel k of the layer's activations.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score. For a network that ends in global average pooling and
    one linear layer it is Grad-CAM divided by the number of positions.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Draelos and Carin, arXiv 2011.08891, equation 5; the ReLU is the family's convention.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "HiResCAM"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return relu(sum_k g_k a_k)."""
        return (gradients * activations).sum(1, keepdim=True).relu()
