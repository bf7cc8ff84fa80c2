"""LeGrad (Bousselham et al., ICCV 2025)."""

import torch
from torch import Tensor

from sibx.attribution._attention_pass import AttentionPass
from sibx.attribution.attention_maps import AttentionMethod


class LeGrad(AttentionMethod):
    """LeGrad: mean over layers, heads and queries of (dz_t^l / dA^l)+, A^l the matrix of layer l.

    z_t^l is the target's score for the tokens of layer l, as the model's own head (its last normalization, pooling and
    classifier) gives it; of a head that pools by attention, the pool's matrix stands for A^l. The head gets the tokens
    of all layers in the same pass. The authors' code for CLIP averages the tokens of a layer instead of reading them as
    the head does, and scales the map to 0..1.


    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.

    Source: Bousselham et al., arXiv 2404.03214, section 3.
    """

    by_layer = True

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "LeGrad"

    @staticmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return the mean over layers of the positive gradients of their own scores."""
        parts = [gradient.relu().mean((1, 2)) for gradient in found.by_layer]
        return torch.stack(parts).mean(0)
