"""Where the units of a layer meet the image: masks and images brought to its grid, and evidence drawn back."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sibx.models._receptive_field import ReceptiveField, receptive_field
from sibx.models.layers import resolve_layer

Alignment = Literal["receptive_field", "half_pixel"]


def layer_field(model: nn.Module, layer: str, images: Tensor, align: Alignment) -> ReceptiveField | None:
    """Return where the units of a layer look; None = each at its share of the image, as those of ``"input"`` do.

    Raises:
        ValueError: for ``receptive_field``, a layer that cannot be measured (see ``receptive_field``).
    """
    if layer == "input" or align == "half_pixel":
        return None
    return receptive_field(model, resolve_layer(model, layer), images)


def pool(maps: Tensor, grid_size: tuple[int, int], field: ReceptiveField | None) -> Tensor:
    """Average maps (B, C, H, W) over the cells of a grid (h, w); the identity when that is their size."""
    return F.adaptive_avg_pool2d(maps, grid_size) if field is None else field.pool(maps, grid_size)


def draw(maps: Tensor, image_size: tuple[int, int], field: ReceptiveField | None) -> Tensor:
    """Draw maps (B, C, h, w) at (H, W) pixels, linearly between the points where the units look."""
    return F.interpolate(maps, image_size, mode="bilinear") if field is None else field.draw(maps, image_size)
