"""What hypothesis draws: heatmaps, masks and tables of scores as bad as they come, and bytes that were damaged."""

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SIZES = ((1, 1), (1, 7), (5, 1), (2, 3), (4, 4), (3, 8))
seeds = st.integers(0, 2**31 - 1)


def _spread(values, low, high):
    return 10.0 ** (low + values * (high - low))


# Kind of row -> values in [0, 1) (P,) and the limits of their type -> a row. Sums of a row stay finite in double
# precision, so the largest double is the only number that is too large to be drawn.
ROWS = {
    "any": lambda v, _: v,
    "ties": lambda v, _: (v * 3).floor(),
    "one-hot": lambda v, _: (v == v.max()).to(v),
    "constant": lambda v, _: torch.full_like(v, 0.3),
    "zero": lambda v, _: torch.zeros_like(v),
    "minus zero": lambda v, _: torch.where(v < 0.6, -0.0, v),
    "denormal": lambda v, limits: (v * 9).floor() * limits.smallest_normal * limits.eps,
    "tiny": lambda v, limits: (1 + v) * limits.tiny,
    "huge": lambda v, limits: v * min(limits.max, 1e300),
    "wide": lambda v, limits: _spread(v, np.log10(limits.tiny) / 2, np.log10(limits.max) / 2),
    "nan": lambda v, _: torch.where(v == v.max(), torch.nan, v),
    "infinite": lambda v, _: torch.where(v == v.max(), torch.inf, v),
}
MASKS = {
    "any": lambda v: v < 0.5,
    "empty": lambda v: v < 0,
    "full": lambda v: v >= 0,
    "one pixel": lambda v: v == v.max(),
    "all but one": lambda v: v < v.max(),
}


@st.composite
def heatmaps(draw, rows=3, sizes=SIZES, dtypes=DTYPES, kinds=tuple(ROWS), channels=1):
    """Maps (rows, channels, H, W) of one type, at least 0, every row of its own kind."""
    size, dtype = draw(st.sampled_from(sizes)), draw(st.sampled_from(dtypes))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=rows, max_size=rows))
    values = _values(draw(seeds), rows, channels * size[0] * size[1])
    limits = torch.finfo(dtype)
    drawn = [ROWS[kind](row, limits) for kind, row in zip(chosen, values, strict=True)]
    return torch.stack(drawn).view(rows, channels, *size).to(dtype)


@st.composite
def masks(draw, shape, kinds=tuple(MASKS)):
    """Masks of this shape (B, 1, H, W), bool, every row of its own kind."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=shape[0], max_size=shape[0]))
    values = _values(draw(seeds), shape[0], shape[2:].numel())
    return torch.stack([MASKS[kind](row) for kind, row in zip(chosen, values, strict=True)]).view(shape)


@st.composite
def scores(draw, length):
    """Values (length,) float64 with ties, or of any size, some of them NaN."""
    generator = np.random.default_rng(draw(seeds))
    levels = draw(st.sampled_from([1, 2, 4, None]))
    values = generator.normal(size=length) if levels is None else generator.integers(levels, size=length) / 4
    values = values * draw(st.sampled_from([1.0, 1e-9, 1e9]))
    values[generator.random(length) < draw(st.sampled_from([0, 0.2, 1]))] = np.nan
    return values


@st.composite
def tables(draw, columns):
    """Rows of Results: every combination of the entries of the columns, in any order, with a score; some are missing.

    Args:
        columns: name of the column -> its entries.
    """
    every = pd.MultiIndex.from_product(columns.values(), names=list(columns)).to_frame(index=False)
    rows = every.assign(value=draw(scores(len(every))))
    return rows.sample(frac=draw(st.sampled_from([1, 0.7])), random_state=draw(st.integers(0, 999)))


@st.composite
def damaged(draw, whole):
    """Bytes of a file after an accident: cut short, some changed, some lost, some put in, or nothing but noise."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "change", "lose", "insert", "noise"]))
        if kind == "cut":
            del content[place:]
        elif kind == "change":
            content[place : place + 4] = draw(st.binary(max_size=4))
        elif kind == "lose":
            del content[place : place + draw(st.integers(1, 64))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=64))
        else:
            content = bytearray(draw(st.binary(max_size=64)))
    return bytes(content)


def _values(seed, rows, count):
    """Different values in (0, 1), (rows, count) float64: few enough that a row has hardly any twice."""
    return torch.rand(rows, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
