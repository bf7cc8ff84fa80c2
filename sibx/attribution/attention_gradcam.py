"""Grad-CAM of attention (a baseline of Chefer et al., CVPR 2021)."""

from torch import Tensor

from sibx.attribution._attention_pass import AttentionPass
from sibx.attribution.attention_maps import AttentionMethod


class AttentionGradCAM(AttentionMethod):
    """Attention Grad-CAM: relu(mean_h w_h A_h) with w_h the mean of dz_t / dA_h over the patches, in the last layer.

    A_h is what the tokens that the head reads attend to in attention head h; the heads are what Grad-CAM's channels
    are. z_t is the target's score.


    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.

    Source: the baseline of Chefer et al., arXiv 2012.09838, section 4.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Attention Grad-CAM"

    @staticmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return relu(mean_h w_h A_h) in the rows that the head reads."""
        layer, read = found.last
        rows, gradients = (read.unsqueeze(1) @ t for t in layer)  # (B, heads, 1, N)
        weights = gradients[..., found.grid.extra :].mean(3, keepdim=True)
        return (weights * rows).mean(1).relu().squeeze(1)
