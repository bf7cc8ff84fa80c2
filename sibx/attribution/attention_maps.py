"""Maps made of attention: what the methods share, and the one pass that all methods of a call share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import require
from sibx.attribution._attention_pass import AttentionPass, read_attention
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import SafeAttribution
from sibx.models.layout import TokenGrid


class AttentionMaps(SafeAttribution):
    """Maps of a transformer's attention by methods of some kinds, from one forward and one backward pass.

    Args:
        forward_func: the model, a ``torch.nn.Module``.
        kinds: classes of the methods to compute.
        upsample: whether to draw the maps at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the maps stay differentiable, for losses on them.

    ``attribute((images,), target)`` returns one map (B, 1, H, W) per class in ``kinds``.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        kinds: Sequence[type["AttentionMethod"]],
        *,
        upsample: bool = True,
        create_graph: bool = False,
    ):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        super().__init__(forward_func)
        self.kinds, self.upsample, self.create_graph = tuple(kinds), upsample, create_graph

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]) for _ in self.kinds)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        size = image_size(inputs)
        found = read_attention(
            self.forward_func,
            inputs,
            None if all(kind.ignores_target for kind in self.kinds) else (target,),
            extra,
            by_layer=any(kind.by_layer for kind in self.kinds),
            create_graph=self.create_graph,
        )
        read = {True: found.of_any_score, False: found}
        maps = [_lay_out(kind.relevance(read[kind.ignores_target]), found.grid) for kind in self.kinds]
        return tuple(F.interpolate(m, size, mode="bilinear") if self.upsample else m for m in maps)


def _lay_out(relevance: Tensor, grid: TokenGrid) -> Tensor:
    """Return the relevance of tokens (B, N) as a map (B, 1, h, w)."""
    return relevance[:, grid.extra :].unflatten(1, (grid.height, grid.width)).unsqueeze(1)


class AttentionMethod(AttentionMaps):
    """A map made of the attention matrices of a transformer, of any architecture.

    The matrices are recorded while the model runs (``record_attention``). A method looks at the last blocks that make
    tokens of one shape: in a plain transformer all blocks; where tokens are merged on the way (Swin, MaxViT) those
    behind the last merging. What else mixes tokens between them, such as convolutions, counts as leaving them in place.
    Windows are placed back on the grid. Which tokens the head reads is seen in the gradient: the class token, several,
    or all of them; of a head that pools by attention its matrix is the last layer.

    Args:
        forward_func: the model, a ``torch.nn.Module``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the grid of tokens.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions are (B, 1, H, W), at least 0; tokens in front of the patches (class, registers) are dropped. Subclasses
    implement ``relevance``.

    Raises:
        ValueError: the model is no module or has no attention, its last attention is neither between all tokens of an
            image nor in windows of them, or its tokens fill no grid.
    """

    ignores_target = False
    by_layer = False

    def __init__(self, forward_func: nn.Module, *, upsample: bool = True, create_graph: bool = False):
        super().__init__(forward_func, (type(self),), upsample=upsample, create_graph=create_graph)

    @staticmethod
    @abstractmethod
    def relevance(found: AttentionPass) -> Tensor:
        """Return how much every token matters, (B, N), at least 0."""
