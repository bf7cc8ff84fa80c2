"""Complexity: against the slow forms, extremes, scale, undefined cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.metrics import effective_complexity, entropy, sparseness
from tests.references import TWINS

SCORES = (sparseness, entropy, effective_complexity)


def random_maps(seed, levels=None):
    """Signed maps (3, 1, 5, 7), with few distinct values (and zeros) if levels is given."""
    maps = torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (maps * levels).round() + (maps == maps.amax()) if levels else maps


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 2]), tolerance=st.sampled_from([0, 1e-5, 0.3]))
def test_complexity_is_the_definition(seed, levels, tolerance):
    maps = random_maps(seed, levels)
    rows = maps.flatten(1).tolist()
    for score, options in ((sparseness, ()), (entropy, ()), (effective_complexity, (tolerance,))):
        assert score(maps, *options).tolist() == pytest.approx([TWINS[score](r, *options) for r in rows])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-30, 1e30))
def test_complexity_properties(seed, scale):
    maps = random_maps(seed)
    for score in SCORES:
        values = score(maps)
        assert values.dtype == torch.float64
        assert values.shape == (3,)
        assert torch.allclose(score(maps * -scale), values)
        assert all(torch.equal(score(maps * far), values) for far in (2.0**1020, 2.0**-1000))  # whose squares overflow
        assert torch.allclose(score(maps.flip(0, 2)), values.flip(0))
        assert torch.equal(torch.cat([score(row) for row in maps.split(1)]), values)
    assert ((sparseness(maps) >= 0) & (sparseness(maps) <= 1 - 1 / 35)).all()
    assert ((entropy(maps) >= 0) & (entropy(maps) <= math.log(35))).all()
    assert ((effective_complexity(maps) >= 1 / 35) & (effective_complexity(maps) <= 1)).all()


def test_extremes():
    """A flat map, a single pixel, and a map that is even on a quarter of its pixels."""
    maps = torch.zeros(3, 1, 4, 4)
    maps[0], maps[1, ..., 2, 1], maps[2, ..., 0] = 0.3, -5, 2
    assert sparseness(maps).tolist() == pytest.approx([0, 15 / 16, 3 / 4])
    assert entropy(maps).tolist() == pytest.approx([math.log(16), 0, math.log(4)])
    assert effective_complexity(maps).tolist() == [1, 1 / 16, 1 / 4]


def test_tolerance_is_relative_to_the_maximum():
    maps = torch.tensor([[[[1.0, 0.5, 0.125, 0.0]]]])
    assert [effective_complexity(maps, t).item() for t in (0, 0.125, 0.49, 0.5)] == [0.75, 0.5, 0.5, 0.25]
    assert effective_complexity(maps).item() == 0.75
    for tolerance in (-0.1, 1):
        with pytest.raises(ValueError, match=r"`tolerance` must lie in \[0, 1\), but got"):
            effective_complexity(maps, tolerance)


@pytest.mark.parametrize("score", SCORES)
def test_undefined_maps_are_nan(score):
    maps = torch.ones(4, 1, 3, 3)
    maps[0] = 0
    maps[1, ..., 1, 1], maps[2, ..., 1, 1] = torch.nan, -torch.inf
    assert score(maps).isnan().tolist() == [True, True, True, False]
    assert score(maps[:0]).shape == (0,)


@pytest.mark.parametrize("score", SCORES)
def test_errors(score):
    with pytest.raises(ValueError, match=r"`heatmaps` must be a floating-point tensor of shape \(B, 1, H, W\)"):
        score(torch.zeros(2, 3, 4, 4))
