"""Grad-CAM (Selvaraju et al., ICCV 2017)."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM


class GradCAM(GradientCAM):
    """Grad-CAM: relu(sum_k w_k a_k) with w_k the spatial mean of dz_t / da_k.

    Attributions (B, 1, H, W), at least 0, in units of the score per position; all zero where no channel speaks for
    the target. Agrees with captum's LayerGradCam + ReLU + bilinear upsampling.

    Source: Selvaraju et al., arXiv 1610.02391, equations 1 and 2.
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
