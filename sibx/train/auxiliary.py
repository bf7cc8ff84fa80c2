"""Auxiliary heads, with which torchvision's Inception v3 and GoogLeNet are trained."""

from typing import Any

from torch import Tensor, nn

from sibx._checks import require
from sibx._outputs import Criterion
from sibx.models.scored import unwrap

USUAL = {1: 0.4, 2: 0.3}  # weights by the number of heads: Szegedy 2015 (two), and what is usual for Inception v3 (one)


class Auxiliary:
    """Takes the scores of auxiliary heads out of what a model returns in train mode, so that it returns logits.

    Args:
        model: the model; a hook is put on it, and its outputs without ``aux_logits`` fields stay as they are.
        criterion: what is minimized for every head, (scores, labels) -> scalar; None = there is none, and the heads do
            not learn.
        weight: weight of each head's loss; None = the usual one for the number of heads.
    """

    def __init__(self, model: nn.Module, criterion: Criterion | None, weight: float | None):
        self.criterion, self.weight = criterion, weight
        self._heads: list[Tensor] = []
        unwrap(model).register_forward_hook(self._take_out)

    def loss(self, labels: Tensor) -> Tensor | None:
        """Return the weighted sum of the heads' losses in the last forward pass, None where no head ran.

        Args:
            labels: labels of the images; rows of scores after them, of second versions of the images, do not count.

        Raises:
            ValueError: several labels per image whose images ran in another number of rows.
        """
        heads, self._heads = self._heads, []
        if not heads or self.criterion is None:
            return None
        rule = "have no auxiliary heads for a loss that runs images of several labels once for each label"
        require(labels.ndim == 1 or len(heads[0]) == len(labels), "model", rule, f"{len(heads)} heads")
        weight = USUAL.get(len(heads), min(USUAL.values())) if self.weight is None else self.weight
        losses = [self.criterion(scores[: len(labels)], labels) for scores in heads]
        return weight * sum(losses[1:], losses[0])

    def _take_out(self, _: nn.Module, __: Any, output: Any) -> Any:
        names = [name for name in getattr(output, "_fields", ()) if name.startswith("aux_logits")]
        if not names or not hasattr(output, "logits"):
            return output
        self._heads = [head for head in (getattr(output, name) for name in names) if head is not None]
        return output.logits
