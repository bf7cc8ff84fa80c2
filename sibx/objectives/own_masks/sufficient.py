"""How large a self mask should be, decided by the model itself: as small as keeps its prediction."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sibx._checks import check_range, require
from sibx.attribution.soft_mask import TopShare
from sibx.models.layers import record, resolve_layer, to_grid
from sibx.objectives.alignment import Alignment, layer_field, pool


@dataclass(frozen=True, slots=True)
class SufficientShare:
    """Per image, the smallest share of the evidence whose features alone keep the model's prediction.

    A fixed share is a prior on the objects' size; this one needs neither a size nor a label. The largest share is taken
    where none keeps the prediction.

    Attributes:
        shares: candidates in (0, 1), rising.

    Raises:
        ValueError: no share, one outside its range, or shares that do not rise.
    """

    shares: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        require(bool(self.shares), "shares", "hold at least one share", self.shares)
        for share in self.shares:
            check_range("shares", share, 1e-6, 1 - 1e-6)
        require(sorted(set(self.shares)) == list(self.shares), "shares", "rise", self.shares)


@torch.no_grad()
def sufficient_masks(
    model: nn.Module, layer: str, images: Tensor, evidence: Tensor, choice: SufficientShare, align: Alignment
) -> Tensor:
    """Return the masks (B, 1, H, W) bool of ``SufficientShare``, from one forward pass and one per candidate.

    The layer's features are multiplied by the mask, averaged where its units look; features outside become zero.

    Args:
        model: in eval mode.
        layer: name of the feature layer.
        images: (B, C, H, W).
        evidence: (B, 1, H, W), at least 0.
        choice: the candidates.
        align: how masks reach the layer's grid.
    """
    field, modules = layer_field(model, layer, images, align), {layer: resolve_layer(model, layer)}
    prediction = model(images).argmax(1)
    chosen = torch.zeros_like(evidence, dtype=torch.bool)
    undecided = torch.ones_like(prediction, dtype=torch.bool)
    for share in choice.shares:
        masks = TopShare(share)(evidence) > 0.5
        chosen[undecided] = masks[undecided]

        def keep(activations: Tensor, masks: Tensor = masks) -> Tensor:
            grid = to_grid(activations, (images.shape[2], images.shape[3]))
            pooled = pool(masks.to(grid.dtype), (grid.shape[2], grid.shape[3]), field)
            return _laid_like(activations, pooled) * activations

        rewrites: dict[str, Callable[[Tensor], Tensor]] = {layer: keep}
        with record(model, modules, rewrites, tokens=True):
            undecided &= model(images).argmax(1) != prediction
    return chosen


def _laid_like(activations: Tensor, mask: Tensor) -> Tensor:
    """Return a mask (B, 1, h, w) in the shape that multiplies a layer's output; tokens in front of patches stay."""
    if activations.ndim == 4:
        return mask
    patches = mask.flatten(2).transpose(1, 2)
    in_front = patches.new_ones(len(patches), activations.shape[1] - patches.shape[1], 1)
    return torch.cat([in_front, patches], 1)
