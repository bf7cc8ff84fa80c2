"""Relevance of attention (Chefer et al., ICCV 2021)."""

import torch
from torch import Tensor

from sibx.attribution._attention_pass import AttentionPass, Layer
from sibx.attribution.attention_maps import AttentionMethod


class Chefer(AttentionMethod):
    """Chefer's relevance: R <- R + E_h[(dz_t / dA * A)+] R from layer to layer, R = I before the first.

    A is the matrix of a layer, z_t the target's score, E_h the mean over heads. What is read are the rows of R of the
    tokens that the head reads, without what a token is to itself (I), which is the same for all patches.


    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.

    Source: Chefer et al., arXiv 2103.15679, equations 5, 6 and, for a head that pools, 10.

    Example:
        >>> model, images = build_model("tiny_vit", num_classes=5).eval(), torch.rand(2, 3, 32, 32)
        >>> Chefer(model).attribute(images, target=[0, 3]).shape
        torch.Size([2, 1, 32, 32])
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Chefer"

    @staticmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return the rows of R - I that the head reads; row by row R is never needed as a whole.

        I is never added and taken away again: small relevance beside it would be lost in rounding.
        """
        layer, own = found.last
        row = torch.zeros_like(own)
        if found.pool is not None:  # its query is no token, so that nothing is its own
            row = own @ _positive(layer)
            own = torch.zeros_like(row)
        for layer in reversed(found.layers):
            row = row + (own + row) @ _positive(layer)
        return row.squeeze(1)


def _positive(layer: Layer) -> Tensor:
    """Return E_h[(dz_t / dA * A)+], (B, queries, keys)."""
    return (layer.gradients * layer.weights).relu().mean(1)
