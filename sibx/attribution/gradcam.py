"""Grad-CAM (Selvaraju et al., ICCV 2017)."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM


class GradCAM(GradientCAM):
    """Grad-CAM: relu(sum_k w_k a_k) with w_k the spatial mean of dz_t / da_k.

    Here z_t is the target's score and a_k is channel k of the layer's activations.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score per position; all zero where no channel speaks for
    the target. With ``align="half_pixel"`` they agree with Captum's LayerGradCam + ReLU + bilinear upsampling.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Selvaraju et al., arXiv 1610.02391, equations 1 and 2.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5).eval(), torch.rand(2, 3, 32, 32)
        >>> GradCAM(model).attribute(images, target=[0, 3]).shape
        torch.Size([2, 1, 32, 32])
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Grad-CAM"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return relu(sum_k mean(g_k) a_k)."""
        weights = gradients.mean((2, 3), keepdim=True)
        return (weights * activations).sum(1, keepdim=True).relu()
