"""HiResCAM (Draelos and Carin, 2020)."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM


class HiResCAM(GradientCAM):
    """HiResCAM: relu(sum_k g_k a_k), the first-order contribution of every position, positive part.

    Attributions (B, 1, H, W), at least 0, in units of the score. For a network that ends in global average pooling and
    one linear layer it is Grad-CAM divided by the number of positions.

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
