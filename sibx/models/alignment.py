"""Where the units of a layer lie on the image: at the points where they look, or in equal cells."""

import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from sibx.models._receptive_field import UnmeasurableError, receptive_field
from sibx.models.finding import resolve_layer

Align = Literal["receptive_field", "half_pixel"]


class Alignment(Protocol):
    """Brings maps from the image to a layer's grid and back; ``ReceptiveField`` and ``HalfPixel`` do this."""

    def draw(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw maps (B, C, h, w) at (H, W) pixels."""

    def pool(self, maps: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Average maps (B, C, H, W) over the cell of every unit of a grid (h, w)."""


class HalfPixel:
    """Places every unit in the middle of its share of the image, as other libraries do; exact for the image itself."""

    def draw(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw maps (B, C, h, w) at (H, W) pixels, linearly between the centers of the cells."""
        return F.interpolate(maps, size, mode="bilinear")

    def pool(self, maps: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Average maps (B, C, H, W) over h x w equal cells; the identity when the maps have that size."""
        return F.adaptive_avg_pool2d(maps, grid_size)


def find_alignment(
    model: Callable[..., Any], layer: nn.Module | str, images: Tensor, align: Align = "receptive_field", *others: Any
) -> Alignment:
    """Return where the units of a layer lie on the image.

    Args:
        model: the model, which takes images (B, C, H, W); a plain function if the layer is given as a module.
        layer: one of the model's modules, or its dotted name; ``"input"`` is the image itself, whose pixels are its
            units.
        images: images (B, C, H, W); their values do not matter.
        align: ``receptive_field``: where the units look, measured by running the model on one image (see
            ``receptive_field``), and in equal cells for a layer that cannot be measured, with one warning;
            ``half_pixel``: in equal cells of the image.
        others: further arguments of the model, for one image.

    Raises:
        ValueError: a layer that does not run or outputs no map, for ``receptive_field``.
    """
    if layer == "input" or align == "half_pixel":
        return HalfPixel()
    try:
        return receptive_field(model, resolve_layer(model, layer, images, *others), images, *others)
    except UnmeasurableError as error:
        if not error.is_told:
            warnings.warn(f"Units are taken to lie in equal cells of the image (half_pixel). {error}", stacklevel=2)
        error.is_told = True
    return HalfPixel()
