"""Attention rollout (Abnar and Zuidema, ACL 2020)."""

from torch import Tensor

from sibx.attribution._attention_pass import AttentionPass
from sibx.attribution.attention_maps import AttentionMethod


class Rollout(AttentionMethod):
    """Attention rollout: how much of every token arrives where the head reads, if attention were all there is.

    The product of (A + I) / 2 over the layers, A the mean over heads and I for what every block adds its input to. The
    target is ignored: the map shows what is mixed with what, not what speaks for a class.


    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in shares of 1.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.

    Source: Abnar and Zuidema, arXiv 2005.00928, section 3.
    """

    ignores_target = True

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Attention rollout"

    @staticmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return the rows of the product that the head reads."""
        read = found.read
        if found.pool is not None:  # its query has nothing of its own to keep
            layer, queries = found.last
            read = queries @ layer.weights.mean(1)
        for layer in reversed(found.layers):
            read = (read + read @ layer.weights.mean(1)) / 2
        return read.squeeze(1)
