"""Similarity of heatmaps: against slow forms and oracles, scale, ties, undefined maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from sibx.metrics import spearman, ssim
from tests.references import TWINS

BOTH = (spearman, ssim)


def random_pair(seed, levels=None, size=(13, 12)):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(3, 1, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    b = (a + b) / 2
    return tuple((m * levels).round() for m in (a, b)) if levels else (a, b)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 2, 6]))
def test_similarity_is_the_definition(seed, levels):
    a, b = random_pair(seed, levels)
    rows = list(zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True))
    expected = [TWINS[spearman](p.flatten().tolist(), q.flatten().tolist()) for p, q in rows]
    assert spearman(a, b).tolist() == pytest.approx(expected)
    assert spearman(a, b).tolist() == pytest.approx([spearmanr(p.flatten(), q.flatten())[0] for p, q in rows])
    assert ssim(a, b).tolist() == pytest.approx([TWINS[ssim](p, q) for p, q in rows])


@pytest.mark.parametrize("size", [(11, 11), (32, 20)])
def test_ssim_is_skimages(size):
    a, b = random_pair(1, size=size)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    rows = zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True)
    expected = [structural_similarity(p / p.max(), q / q.max(), **options) for p, q in rows]
    assert ssim(a, b).tolist() == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_similarity_properties(seed, scale):
    a, b = random_pair(seed)
    for score in BOTH:
        values = score(a, b)
        assert values.dtype == torch.float64
        assert values.shape == (3,)
        assert (values.abs() <= 1).all()
        assert torch.allclose(score(b, a), values)
        assert torch.allclose(score(a * scale, b), values)
        assert torch.allclose(score(a, a * scale), torch.ones(3, dtype=torch.float64))
        assert torch.allclose(score(a.flip(0), b.flip(0)), values.flip(0))
        assert torch.equal(torch.cat([score(a[i : i + 1], b[i : i + 1]) for i in range(3)]), values)
    assert torch.allclose(spearman(a, 1 - a), -torch.ones(3, dtype=torch.float64))
    assert torch.allclose(spearman(a, b.exp()), spearman(a, b))


def test_unrelated_maps_are_near_zero():
    a, b = random_pair(0, size=(64, 64))[0], random_pair(1, size=(64, 64))[0]
    assert spearman(a, b).abs().max() < 0.05
    assert ssim(a, b).abs().max() < 0.1


def test_ssim_calls_maps_alike_that_have_an_outlier_each():
    """Why it is not the default for grainy maps."""
    a, b = random_pair(0, size=(32, 32))[0], random_pair(1, size=(32, 32))[0]
    a[..., 16, 16], b[..., 16, 16] = 1000, 1000
    assert spearman(a, b).abs().max() < 0.1
    assert ssim(a, b).min() > 0.9


@pytest.mark.parametrize("score", BOTH)
def test_undefined_and_silent_maps(score):
    maps = torch.rand(5, 1, 12, 12)
    maps[0], maps[1, ..., 3, 3], maps[2, ..., 3, 3] = 0, torch.nan, torch.inf
    good = torch.rand(5, 1, 12, 12)
    assert score(maps, good).isnan().tolist() == [True, True, True, False, False]
    assert score(good, maps).isnan().tolist() == [False, True, True, False, False]
    assert abs(score(good, maps)[0].item()) < 0.01  # silent: not similar
    assert score(maps[:0], good[:0]).shape == (0,)


def test_constant_maps():
    flat, other = torch.full((1, 1, 12, 12), 0.3), torch.rand(1, 1, 12, 12)
    assert spearman(flat, other).isnan().item()
    assert spearman(other, flat).item() == 0
    assert ssim(flat, 2 * flat).item() == pytest.approx(1)


def test_channels_last_and_half_precision():
    a, b = random_pair(3)
    for score in BOTH:
        strided = [m.expand(-1, 2, -1, -1).contiguous(memory_format=torch.channels_last)[:, :1] for m in (a, b)]
        assert torch.allclose(score(*strided), score(a, b))
        assert np.allclose(score(a.half(), b.half()), score(a, b), atol=0.01)


@pytest.mark.parametrize("score", BOTH)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(2, 3, 12, 12), torch.ones(2, 3, 12, 12), "`heatmaps` must be a floating-point tensor of shape"),
        (torch.ones(2, 1, 12, 12), torch.ones(2, 12, 12), "`others` must be a floating-point tensor of shape"),
        (
            torch.ones(2, 1, 12, 12),
            torch.ones(2, 1, 12, 11),
            r"`others` must have the shape of the heatmaps, \(2, 1, 1",
        ),
        (torch.ones(2, 1, 12, 12), -torch.ones(2, 1, 12, 12), "`others` must be at least 0, but got -1"),
    ],
)
def test_errors(score, a, b, message):
    with pytest.raises(ValueError, match=message):
        score(a, b)


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ValueError, match="`heatmaps` must have sides of at least 11 pixels"):
        ssim(torch.ones(1, 1, 32, 10), torch.ones(1, 1, 32, 10))
