"""LayerCAM (Jiang et al., TIP 2021)."""

from torch import Tensor

from sibx.attribution.cam import GradientCAM


class LayerCAM(GradientCAM):
    """LayerCAM: relu(sum_k relu(g_k) a_k), every position weighted by its own positive gradient.

    Attributions (B, 1, H, W), at least 0, in units of the score; works at early layers too.

    Source: Jiang et al., LayerCAM, IEEE TIP 30, 2021, equations 5 to 7.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "LayerCAM"

    @staticmethod
    def weigh(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return relu(sum_k relu(g_k) a_k)."""
        return (gradients.relu() * activations).sum(1, keepdim=True).relu()
