"""Linear imputation: removed pixels become the weighted mean of their neighbors, on the device, a batch at a time.

One sparse linear system per image and channel, solved by conjugate gradients. On a large hole they alone would need
hundreds of steps, because values travel one pixel per step. So they start from the solution on a coarser grid, which
starts from a coarser one, and every step is preconditioned by a multigrid cycle over the same grids: two or three steps
are left, whatever the size of the image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_images, check_masks, check_range

TOLERANCE = 0.01
MOST_STEPS = 100  # a guard; a hole of any shape takes less than 40 at the smallest tolerance
COARSE_STEPS = 2  # on every coarser grid, for a start on the next finer one
DAMPING = 0.9  # of a sweep, where the steps are fewest
COARSEST = 8  # pixels of a side; such a grid is solved directly
FRAME = (1, 1, 1, 1)  # of zeros around an image: nothing comes from beyond its border
CACHE = 2**20  # values per part of the batch on a CPU, so that what a solve works on stays in the cache


def linear_imputation(images: Tensor, removed: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Fill removed pixels so that each is the weighted mean of its neighbors.

    ``x_i = sum_j w_ij x_j / sum_j w_ij`` over the up to 8 neighbors j inside the image, removed or not: w = 1/6 for
    direct and 1/12 for diagonal ones. Known pixels stay as they are. An image without any has no solution of its own
    and becomes 0, the data set's mean. Rows of a batch do not influence each other.

    Args:
        images: (B, C, H, W), normalized; what they hold at removed pixels is not looked at.
        removed: (B, 1, H, W) bool.
        tolerance: error of a pixel, relative to the largest absolute value known in its channel; from the square root
            of the data type's precision to 1. The energy norm of the error has to come down to that of an error of this
            size everywhere; single pixels can be off by several times as much. At the default the root mean square of
            the errors is about half of ROAD's noise at most, and a tenth of it in the mean.

    Returns:
        (B, C, H, W) without a gradient, of the type of the images; half precision is solved in float32.

    Raises:
        ValueError: a wrong shape, dtype or range.

    Source: Rong et al., ICML 2022, arXiv 2202.00449 (the system, without its noise; solved directly there).
    """
    check_images(images)
    check_masks(removed, images, "removed")
    working = torch.promote_types(images.dtype, torch.float32)
    check_range("tolerance", tolerance, torch.finfo(working).eps ** 0.5, 1)
    hole = removed & ~removed.flatten(1).all(1).view(-1, 1, 1, 1)
    size = max(1, CACHE // max(1, images[:1].numel())) if images.device.type == "cpu" else max(1, len(images))
    filled = images.detach().masked_fill(removed, 0)
    for part, unknown in zip(filled.split(size), hole.split(size), strict=True):
        known = part.to(working)
        part.add_(_fill(known, unknown.to(working), tolerance))
    return filled


class _Grid(NamedTuple):
    """One grid of the hierarchy, with the weights times 12: whole numbers, so that rounding has no preferred sign.

    Attributes:
        hole: (B, 1, h, w), 1 at unknown pixels, 0 at others, which take no part.
        center: (B, 1, h, w), 4 + the sum of the weights that hold a pixel.
        sweep: (B, 1, h, w), DAMPING / that sum at unknown pixels, 0 at others.
        coarser: the next grid, or the inverse of its matrix (B, h w, h w).
    """

    hole: Tensor
    center: Tensor
    sweep: Tensor
    coarser: "_Grid | Tensor"


def _fill(known: Tensor, hole: Tensor, tolerance: float) -> Tensor:
    """Values of the unknown pixels, 0 at known ones; known is 0 in the hole."""
    held = hole * _blur(F.pad(1 - hole, FRAME))
    error = tolerance * known.abs().amax((2, 3), keepdim=True)
    bound = held.sum((2, 3), keepdim=True) * error.square()
    found = _solve(_grid(hole, held), hole * _blur(F.pad(known, FRAME)), MOST_STEPS, bound)
    return found.mul_(hole)  # the inverse of a small grid may be rounded where it should hold zeros


def _grid(hole: Tensor, held: Tensor) -> _Grid | Tensor:
    """This grid and all coarser ones, of halved sides; a coarse pixel is unknown where one of its pixels is.

    All they see of known pixels is the weight ``held`` by which these hold the unknown ones; it adds up over the pixels
    of a coarse one.
    """
    center = held.add(_blur(F.pad(hole, FRAME)))
    if max(hole.shape[2:]) <= COARSEST:
        return _inverse(hole, center)
    sweep = DAMPING * hole / (center - 4).clamp(min=1)
    return _Grid(hole, center, sweep, _grid((_add_blocks(hole) > 0).to(hole), _add_blocks(held)))


def _inverse(hole: Tensor, center: Tensor) -> Tensor:
    """Of the matrix of all pixels, (B, h w, h w); those that take no part keep their value."""
    pixels = hole.shape[2:].numel()
    unit = torch.eye(pixels, dtype=hole.dtype, device=hole.device).view(1, pixels, *hole.shape[2:])
    columns = hole * (center * unit - _blur(F.pad(unit, FRAME))) + (1 - hole) * unit
    return torch.linalg.inv(columns.flatten(2))


def _solve(grid: _Grid | Tensor, target: Tensor, steps: int, bound: Tensor) -> Tensor:
    """Conjugate gradients from the solution of the coarser grid, preconditioned by a multigrid cycle.

    Every channel of every image is a system of its own and rests as soon as the energy of its error is within the
    bound, so that it takes the same steps in any batch. What residuals hold outside of the hole is never looked at.
    """
    if isinstance(grid, Tensor):
        return _apply(grid, target)
    start = _solve(grid.coarser, _add_blocks(target), COARSE_STEPS, torch.zeros_like(bound))
    x = target.new_zeros(*target.shape[:2], target.shape[2] + 2, target.shape[3] + 2)
    _add_enlarged(_core(x), start, grid.hole)
    residual = _negative(grid, x).add_(target)
    direction, energy = torch.zeros_like(x), torch.ones_like(bound)
    for step in range(steps):
        correction = _cycle(grid, residual)
        before, energy = energy, _dot(residual, correction)
        unsolved = energy > bound
        if step == steps - 1 or not unsolved.any():
            break
        _core(direction).mul_(torch.where(unsolved, energy / before, 0)).add_(correction)
        change = _negative(grid, direction)
        length = torch.where(unsolved, energy / _dot(_core(direction), change), 0)
        _core(x).addcmul_(_core(direction), length, value=-1)
        residual.addcmul_(change, length, value=-1)
    return _core(x) + correction


def _cycle(grid: _Grid | Tensor, residual: Tensor) -> Tensor:
    """Approximate the solution for this residual: a sweep, the rest on a coarser grid, a sweep.

    The same before and after, so that it is symmetric, as conjugate gradients need it.
    """
    if isinstance(grid, Tensor):
        return _apply(grid, residual)
    x = residual.new_zeros(*residual.shape[:2], residual.shape[2] + 2, residual.shape[3] + 2)
    _core(x).addcmul_(grid.sweep, residual)
    rest = _cycle(grid.coarser, _add_blocks(_negative(grid, x).add_(residual).mul_(grid.hole)))
    _add_enlarged(_core(x), rest, grid.hole)
    # Jacobi: every unknown pixel goes most of the way to what its neighbors ask for.
    _core(x).addcmul_(grid.sweep, _negative(grid, x).add_(residual))
    return _core(x)


def _apply(inverse: Tensor, target: Tensor) -> Tensor:
    return (target.flatten(2) @ inverse).view_as(target)


def _negative(grid: _Grid, framed: Tensor) -> Tensor:
    """Minus the system's matrix times x: the weighted sum of the neighbors less the sum of the weights times x."""
    return _blur(framed).addcmul_(grid.center, _core(framed), value=-1)


def _blur(framed: Tensor) -> Tensor:
    """Neighbors with weight 2 (direct) and 1 (diagonal), and the pixel itself with 4."""
    x = framed
    for _ in range(2):
        x = x[..., :-1] + x[..., 1:]
    for _ in range(2):
        x = x[..., :-1, :] + x[..., 1:, :]
    return x


def _core(framed: Tensor) -> Tensor:
    return framed[..., 1:-1, 1:-1]


def _add_blocks(x: Tensor) -> Tensor:
    """Sums over blocks of 2 x 2 pixels; an odd side is continued by zeros."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    x = x[..., ::2, :] + x[..., 1::2, :]
    return x[..., ::2] + x[..., 1::2]


def _add_enlarged(x: Tensor, coarse: Tensor, hole: Tensor) -> None:
    """Add to every unknown pixel the value of its block."""
    wide = torch.stack((coarse, coarse), 4).flatten(3)[..., : x.shape[3]]
    for row in (0, 1):
        part = x[..., row::2, :]
        part.addcmul_(hole[..., row::2, :], wide[..., : part.shape[2], :])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)
