"""Eigen-CAM with a class: of activations times gradients."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM
from sibx.attribution.eigencam import EigenCAM


class EigenGradCAM(GradientCAM):
    """Eigen-CAM of a g, activations times gradients: relu of its projection on its first right singular vector.

    Unlike Eigen-CAM it explains a class. A singular vector is defined up to its sign, which is chosen so that the map
    agrees with the sum of a g over channels, what every place contributes to the score.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Gildenblat, the library pytorch-grad-cam, 2021, after Muhammad and Yeasin, arXiv 2008.00299; there the rows
    are centered and the sign is left to chance.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "EigenGradCAM"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return the map (B, 1, h, w) of activations and gradients (B, C, h, w)."""
        contributions = activations * gradients
        projection = EigenCAM.project(contributions)
        agreement = (projection * contributions.sum(1, keepdim=True)).sum((1, 2, 3), keepdim=True)
        return (projection * agreement.sign()).relu()
