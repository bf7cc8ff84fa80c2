"""Mask rules of the worst evidence, against the slow forms; methods of the worst images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sibx.attribution import (
    METHODS,
    DensityMask,
    HardDensityMask,
    PeakMask,
    TopP,
    TopShare,
    soft_quantile,
    to_heatmap,
)
from tests.helpers.fuzzing import cases
from tests.helpers.methods import HERE, build, network_for
from tests.helpers.strategies import ROWS, heatmaps, seeds
from tests.references import sib as reference

FINITE = tuple(kind for kind in ROWS if kind not in ("nan", "infinite"))
TAME = tuple(kind for kind in FINITE if kind not in ("huge", "wide"))  # no single pixel outweighs all others
PICTURES = ("any", "constant", "zero", "one-hot", "huge")
SIZES = ((1, 1), (1, 9), (7, 1), (6, 5), (12, 12))
DOUBLE = (torch.float64,)


@cases(120)
@given(
    rows=heatmaps(sizes=SIZES, dtypes=DOUBLE, kinds=TAME),
    q=st.floats(0, 1),
    temperature=st.sampled_from([0.01, 0.1, 2]),
)
def test_soft_quantile(rows, q, temperature):
    rows = rows.flatten(1)
    expected = [reference.soft_quantile(row, q, temperature).item() for row in rows]
    assert soft_quantile(rows, q, temperature)[:, 0].tolist() == pytest.approx(expected, rel=1e-9)


@cases(60)
@given(
    evidence=heatmaps(sizes=SIZES, dtypes=DOUBLE, kinds=TAME, channels=3),
    window=st.sampled_from([1, 3, 5]),
    sign=st.sampled_from([1, -1]),
)
def test_density_masks(evidence, window, sign):
    expected = torch.stack([reference.density_mask(row, window) for row in evidence])[:, None]
    assert torch.allclose(DensityMask(window)(sign * evidence), expected, atol=1e-9)
    peaks = PeakMask()(sign * evidence)
    for row, found in zip(evidence, peaks, strict=True):
        g = row.mean(0).abs() / (row.mean(0).abs().max() + 1e-8)
        assert torch.allclose(found[0], torch.sigmoid(10 * (g - reference.soft_quantile(g.flatten(), 0.8))), atol=1e-9)


@cases(100)
@given(evidence=heatmaps(sizes=SIZES, kinds=FINITE), share=st.floats(0.01, 0.99), window=st.sampled_from([1, 3]))
def test_hard_masks(evidence, share, window):
    """Zeros and ones of the type of the evidence; no pixel outside the mask is above one inside."""
    values = evidence.flatten(1).double()
    count = max(1, round(share * values.shape[1]))
    for rule in (TopShare(share), TopP(share), HardDensityMask(window)):
        mask = rule(evidence)
        assert mask.dtype == evidence.dtype
        assert mask.shape == evidence.shape
        assert ((mask == 0) | (mask == 1)).all()
    for rule in (TopShare(share), TopP(share)):
        chosen = rule(evidence).flatten(1).bool()
        for row, inside in zip(values, chosen, strict=True):
            if inside.any() and not inside.all():
                assert row[inside].min() >= row[~inside].max()
            if isinstance(rule, TopShare):
                assert inside.sum() == count
            else:  # the fewest pixels that hold the share
                total = row.sum()
                assert row[inside].sum() >= share * total * (1 - 1e-12)
                assert not inside.any() or row[inside].sum() - row[inside].min() < share * total * (1 + 1e-12)


@cases(60)
@given(name=st.sampled_from(HERE), kind=st.sampled_from(PICTURES), data=st.data())
def test_methods(name, kind, data):
    """Finite images, finite maps of their own; a picture that is not finite never spoils its neighbor's map."""
    size, generator = data.draw(st.sampled_from([(16, 16), (8, 24)])), torch.Generator().manual_seed(data.draw(seeds))
    values = torch.rand(2, 3 * size[0] * size[1], dtype=torch.float64, generator=generator)
    limits = torch.finfo(torch.float16)  # "huge" to pictures: 65,504 where white is about 2
    images = torch.stack([ROWS[kind](row, limits) for row in values]).view(2, 3, *size).float() - 0.3
    method = build(name, network_for(name, width=4), seen=torch.randn(6, 3, *size, generator=generator))

    def explain(pictures):
        maps = method.attribute(pictures, target=torch.tensor([0, 2]))
        return to_heatmap(maps, size, METHODS[name].reduce).detach()

    maps = explain(images)
    assert maps.shape == (2, 1, *size)
    assert maps.isfinite().all()
    assert (maps >= 0).all()
    beside = explain(torch.stack([images[0], torch.full_like(images[1], torch.nan)]))
    assert torch.allclose(beside[0], maps[0], rtol=1e-3, atol=1e-5 * maps[0].max())
