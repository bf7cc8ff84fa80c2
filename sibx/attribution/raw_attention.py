"""The attention of the last layer."""

from torch import Tensor

from sibx.attribution._attention_pass import AttentionPass
from sibx.attribution.attention_maps import AttentionMethod


class RawAttention(AttentionMethod):
    """Raw attention: what the tokens that the head reads attend to in the last layer, mean over heads.

    The target is ignored: the map shows what the last layer looks at, not what speaks for a class.


    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in shares of 1.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.

    Source: the baseline of Chefer et al., arXiv 2012.09838, section 4.
    """

    ignores_target = True

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Raw attention"

    @staticmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return the rows of the last matrix that the head reads."""
        layer, read = found.last
        return (read @ layer.weights.mean(1)).squeeze(1)
