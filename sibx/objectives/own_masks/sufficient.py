"""A self mask whose size the model decides: as small as possible while it keeps the prediction."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sibx._checks import check_range, require
from sibx.attribution.mask_rules import TopShare
from sibx.objectives.own_masks.tail import Tail


@dataclass(frozen=True, slots=True)
class SufficientShare:
    """Per image, the smallest share of the evidence whose features alone keep the model's prediction.

    A fixed share is a prior on the objects' size; this rule needs neither a size nor a label. If no share keeps the
    prediction, the largest share is taken.

    Attributes:
        shares: shares to try, in (0, 1), in rising order.

    Calling it maps evidence (B, 1, H, W) and the ``Tail`` of a model to a mask (B, 1, H, W) bool, by one forward pass
    and one for each share.

    Raises:
        ValueError: no share, a share outside (0, 1), or shares that do not rise.
    """

    needs: ClassVar[tuple[str, ...]] = ("tail",)
    differentiable: ClassVar[bool] = False

    shares: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        require(bool(self.shares), "shares", "hold at least one share", self.shares)
        for share in self.shares:
            check_range("shares", share, 1e-6, 1 - 1e-6)
        require(sorted(set(self.shares)) == list(self.shares), "shares", "rise", self.shares)

    def __call__(self, evidence: Tensor, tail: Tail) -> Tensor:
        """Return the mask (B, 1, H, W) bool."""
        prediction = tail.predict()
        chosen = torch.zeros_like(evidence, dtype=torch.bool)
        undecided = torch.ones_like(prediction, dtype=torch.bool)
        for share in self.shares:
            masks = TopShare(share)(evidence) > 0.5
            chosen[undecided] = masks[undecided]
            undecided &= tail.predict(masks) != prediction
        return chosen
