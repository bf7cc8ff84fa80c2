"""Where attention matrices belong: heads side by side, and windows back on the grid of tokens they were cut from."""

from functools import partial

import torch
from torch import Tensor

from sibx.attribution.attention import Attention

CERTAIN = 1e-2  # how far a measured place may be from a whole number


class Placed:
    """How to bring one attention matrix, or its gradient, to (B, heads, N, N), N the tokens that a block makes.

    A matrix of all tokens of an image is taken as it is. Windows are placed by what the block does with them: a query
    changes one token of the block's output, and the gradient of a weighted sum of the output, with a different weight
    for every token, tells which one. So shifted, dilated and padded windows need no code of their own.

    Args:
        attention: the recorded matrix.
        batch: number of images B.
        name: what errors call the model.

    Raises:
        ValueError: the queries are no tokens of the block's output, such as channels, or a part of the tokens.
    """

    def __init__(self, attention: Attention, batch: int, name: str):
        shape, tokens = attention.weights.shape, attention.tokens
        rows = shape[:-3].numel() if len(shape) > 3 else shape[0]
        self.batch, self.count = batch, shape[-1]
        self.places: Tensor | None = None
        self.seen = True  # whether the places could be measured
        if attention.is_square and rows % batch == 0:
            if _is_whole(shape, rows, tokens, batch):
                return
            if tokens is not None and len(tokens) == batch:
                sound = tokens.detach().flatten(1).isfinite().all(1)  # (B,)
                self.seen = bool(sound.any())
                cut = partial(_measure, first=int(sound.int().argmax())) if self.seen else _somewhere
                self.places = cut(attention.weights, tokens, batch)
        if self.places is None:
            made = "no tokens" if tokens is None else f"tokens {tuple(tokens.shape)}"
            seen = f"attention {tuple(shape)} of {batch} images in a block that makes {made}"
            rule = "have attention between all tokens of an image, or in windows of them"
            raise ValueError(f"`model` must {rule}, but got {seen} in {name}.")
        self.count = int(self.places.max()) + 1

    def dense(self, matrix: Tensor) -> Tensor:
        """Return a matrix, or a gradient for it, as (B, heads, N, N); tokens of different windows have 0.

        It is NaN if no image says where its windows lie.
        """
        size = matrix.shape[-1]
        if self.places is None:
            return matrix.reshape(self.batch, -1, size, size)
        windows = _windows(matrix, self.batch).transpose(1, 2)  # (B, heads, windows, n, n)
        from_, to = self.places[:, :, None], self.places[:, None]
        inside = ((from_ >= 0) & (to >= 0)).flatten()
        flat = (from_ * self.count + to).flatten()[inside]
        empty = matrix.new_zeros(*windows.shape[:2], self.count**2)
        found = empty.index_add(2, flat, windows.flatten(2)[:, :, inside])
        repeats = int((self.places >= 0).sum()) // self.count  # heads may come as windows
        return (found / (repeats if self.seen else torch.nan)).unflatten(2, (self.count, self.count))


def _is_whole(shape: torch.Size, rows: int, tokens: Tensor | None, batch: int) -> bool:
    """Whether every matrix is of all tokens of an image, in their order."""
    if tokens is None:
        return rows == batch
    has_these = tokens.ndim == 3 and sorted(tokens.shape[:2]) == sorted((batch, shape[-1]))  # (B, N, D), or (N, B, D)
    return has_these and (rows == batch or len(shape) == 3)  # of three axes the first is of images and heads


def _measure(weights: Tensor, tokens: Tensor, batch: int, first: int) -> Tensor | None:
    """Return the token of every query (windows, n), -1 for padding; None if queries are no tokens.

    Measured for one image, the first whose tokens are finite; all others are cut alike.
    """
    others = torch.arange(batch, device=weights.device) != first
    for axes in _grid_axes(tokens):
        size = [n if axis in axes else 1 for axis, n in enumerate(tokens.shape)][1:]
        count = torch.Size(size).numel()
        code = torch.arange(1, count + 1, device=tokens.device).view(size)
        signs = (
            torch.arange(tokens[0].numel() // count, device=tokens.device).cos().sign()
        )  # sums of norms are constant
        signs = signs.view([1 if axis in axes else n for axis, n in enumerate(tokens.shape)][1:])
        sums = [(tokens[first] * signs * c).sum() for c in (torch.ones_like(code), code)]
        found = (torch.autograd.grad(s, weights, retain_graph=True)[0] for s in sums)
        plain, coded = (_windows(gradient, batch) for gradient in found)
        alone = (plain[others].nan_to_num() == 0).all()  # NaN comes back from tokens that are NaN
        plain, coded = plain[first], coded[first]
        strength = plain.square().sum((1, 3))  # (windows, n)
        places = (plain * coded).sum((1, 3)) / strength.where(strength > 0, 1) - 1
        whole = places.round()
        counts = torch.bincount(whole[strength > 0].long().clamp(0, count), minlength=count)
        off = (coded - plain * (whole + 1)[:, None, :, None]).square().sum((1, 3))
        sound = (off <= CERTAIN**2 * strength * (whole + 1).square()).all() & ((places - whole).abs() < CERTAIN).all()
        if bool(sound & alone & (counts == counts[0]).all() & (counts[0] > 0)) and len(counts) == count:
            return torch.where(strength > 0, whole, -1).long()
    return None


def _somewhere(weights: Tensor, tokens: Tensor, batch: int) -> Tensor | None:
    """Return places (windows, n) for windows of which nothing can be measured; None if there are fewer than tokens."""
    windows, _, _, n = _windows(weights, batch).shape[1:]
    for axes in _grid_axes(tokens):
        count = torch.Size(tokens.shape[axis] for axis in axes).numel()
        if windows * n >= count:
            return (torch.arange(windows * n, device=weights.device) % count).view(windows, n)
    return None


def _grid_axes(tokens: Tensor) -> tuple[tuple[int, ...], ...]:
    """Return the axes that may be those of the grid."""
    return ((1,),) if tokens.ndim == 3 else ((1, 2), (2, 3))


def _windows(matrix: Tensor, batch: int) -> Tensor:
    """Return a matrix as (B, windows, heads, queries, keys)."""
    heads = matrix.shape[-3] if matrix.ndim > 3 else 1
    return matrix.reshape(batch, -1, heads, *matrix.shape[-2:])
