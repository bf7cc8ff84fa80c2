"""How a layer's output lies on the image: channels first, channels last, or tokens in rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from sibx._checks import describe
from sibx._precise import precise
from sibx.models.plain import plain_gradient

MOST_EXTRA = 16  # tokens in front of the patches: a class, a distillation token, registers
STRETCH = 2.0  # a grid whose sides are in another proportion than the image's by more than this factor is none of it
Size = tuple[int, int]


class TokenGrid(NamedTuple):
    """The grid (h, w) that tokens fill, behind ``extra`` tokens in front."""

    height: int
    width: int
    extra: int


def token_grid(tokens: Tensor, image_size: Size) -> TokenGrid | None:
    """Return the grid in the proportions of the image that tokens (B, N, D) fill; None if there is no such grid."""
    height, width = image_size
    for extra in range(min(MOST_EXTRA + 1, tokens.shape[1])):
        patches = tokens.shape[1] - extra
        h = round((patches * height / width) ** 0.5)
        if h and patches % h == 0 and h * width == patches // h * height:
            return TokenGrid(h, patches // h, extra)
    return None


def to_grid(features: Tensor, image_size: Size) -> Tensor:
    """Return features as a map (B, C, h, w): a map as it is, tokens (B, N, D) laid out in rows.

    Tokens in front of the patches (class, registers) are dropped: as many as needed, so that the rest fills a grid
    h x w in the proportions of the image. Maps (B, h, w, C) are turned around where layers are recorded (``record``).

    Args:
        features: features (B, C, h, w), or tokens (B, N, D).
        image_size: (H, W) of the image that the tokens come from.

    Raises:
        ValueError: no number of leading tokens up to 16 leaves such a grid.
    """
    if features.ndim == 4:
        return features
    grid = token_grid(features, image_size)
    if grid is None:
        rule = f"output tokens that fill a grid of the image's proportions {image_size}"
        raise ValueError(f"`layer` must {rule}, but got {describe(features)}.")
    return features[:, grid.extra :].unflatten(1, (grid.height, grid.width)).permute(0, 3, 1, 2)


def is_in_proportion(grid: Size, image_size: Size) -> bool:
    """Whether a grid (h, w) has the proportions of the image, up to a factor of two; a single cell has."""
    stretch = grid[0] / grid[1] * image_size[1] / image_size[0] if min(grid) else 0
    return tuple(grid) == (1, 1) or 1 / STRETCH <= stretch <= STRETCH


def is_surely_channels_first(shape: torch.Size, image_size: Size) -> bool:
    """Whether axes 2 and 3 of a 4-D output, and not axes 1 and 2, have the proportions of the image."""
    _, a, b, c = shape
    return is_in_proportion((b, c), image_size) and not is_in_proportion((a, b), image_size)


def is_channels_last(output: Tensor, image: Tensor) -> bool:
    """Whether a layer's output is (B, h, w, C) rather than (B, C, h, w).

    Where the proportions do not say so, it is measured: a step along an axis of the grid moves the place a unit looks
    at, and a step from channel to channel does not.

    Args:
        output: the layer's output, computed from the image by plain functions (``PlainFunctions``).
        image: the image (1, C, H, W), in the graph.

    Raises:
        ValueError: neither the proportions nor the places say which it is.
    """
    size, (_, a, b, _) = (image.shape[2], image.shape[3]), output.shape
    if is_surely_channels_first(output.shape, size):
        return False
    along_first = _distance(output[0, :, b // 2].sum(1), image, 0)
    along_last = _distance(output[0, :, b // 2].sum(0), image, 1)
    if along_first != along_last:
        return along_first > along_last
    only_last = is_in_proportion((a, b), size) and not is_in_proportion((b, output.shape[3]), size)
    if not only_last:
        rule = f"output a map (B, C, h, w) or (B, h, w, C) of an image of {size}, and it cannot be told which it is"
        raise ValueError(f"`layer` must {rule}: got {describe(output)}.")
    return True


def _distance(units: Tensor, image: Tensor, axis: int) -> float:
    """Return how far apart two neighboring units in the middle look, along an axis (y or x) of the image."""
    middle = len(units) // 2
    if not units.requires_grad or middle == 0:
        return 0.0
    centers = []
    for unit in units[middle - 1 : middle + 1]:
        strength = precise(plain_gradient(unit, image)[0]).sum((0, 2 - axis))
        centers.append(float((strength * torch.arange(len(strength)).to(strength)).sum() / strength.sum()))
    distance = abs(centers[1] - centers[0])
    return round(distance, 3) if distance == distance else 0.0  # NaN: looks nowhere
