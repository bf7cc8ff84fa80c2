"""Linear imputation: against a dense solve, its tolerance, what it costs, degenerate holes, rows on their own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.metrics.faithfulness import imputation
from sibx.metrics.faithfulness.imputation import TOLERANCE, linear_imputation
from tests.attribution.test_peer_bugs import installed
from tests.references import imputation as reference

FINE = 1e-7  # of the double precision that exactness is looked at in


def random_case(seed, size, share, grain=1):
    """Images and holes of a given share; with a grain above 1 the holes are blobs of about that many pixels across."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    coarse = [-(-side // grain) for side in size]
    values = F.interpolate(torch.rand(3, 1, *coarse, generator=generator), size, mode="bilinear").flatten(1)
    removed = torch.zeros_like(values, dtype=torch.bool)
    removed.scatter_(1, values.argsort(1, descending=True)[:, : round(share * values.shape[1])], True)
    return images, removed.view(3, 1, *size)


def dense(images, removed):
    rows = [reference.linear_imputation(x.numpy(), hole[0].numpy()) for x, hole in zip(images, removed, strict=True)]
    return torch.from_numpy(np.stack(rows))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([(12, 12), (11, 7), (5, 16), (1, 9), (13, 2)]),
    share=st.floats(0.05, 0.9),
    grain=st.sampled_from([1, 4]),
)
def test_imputation_is_the_dense_solution(seed, size, share, grain):
    images, removed = random_case(seed, size, share, grain)
    assert torch.allclose(linear_imputation(images, removed, FINE), dense(images, removed), atol=1e-5)


@pytest.mark.parametrize("grain", [1, 6, 40])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_the_error_is_within_the_tolerance(share, grain):
    """In single precision; the root mean square of the errors, and single pixels by several times as much."""
    images, removed = random_case(1, (40, 40), share, grain)
    exact = dense(images, removed)
    largest = images.masked_fill(removed, 0).abs().amax((2, 3), keepdim=True)
    pixels = removed.sum((2, 3), keepdim=True)
    for tolerance in (TOLERANCE, 1e-3):
        error = (linear_imputation(images.float(), removed, tolerance).double() - exact) / largest
        assert (error.square().sum((2, 3), keepdim=True) / pixels).sqrt().max() < tolerance
        assert error.abs().max() < 10 * tolerance


@pytest.mark.parametrize("draw", ["noise", "half", "all but a corner"])
def test_large_images_take_few_steps(draw, monkeypatch):
    """A value travels one pixel per sweep; a step on every grid reaches across 224 pixels."""
    images, removed = random_case(0, (224, 224), 0.5)
    if draw != "noise":
        removed[...] = True
        removed[..., : (224 if draw == "half" else 1), : (112 if draw == "half" else 1)] = False
    steps, cycle = [], imputation._cycle

    def counting(grid, residual):
        steps.append(residual.shape[2])
        return cycle(grid, residual)

    monkeypatch.setattr(imputation, "_cycle", counting)
    filled = linear_imputation(images[:1].float(), removed[:1])
    assert steps.count(224) <= 4
    if draw == "all but a corner":
        assert torch.allclose(filled.double(), images[:1, :, :1, :1].expand_as(filled), rtol=0.05)


def test_known_pixels_stay_and_constants_are_continued():
    images, removed = random_case(2, (17, 9), 0.6)
    filled = linear_imputation(images.requires_grad_(), removed)
    assert not filled.requires_grad
    assert torch.equal(filled.masked_fill(removed, 0), images.masked_fill(removed, 0))
    flat = torch.full_like(images, 1.7)
    assert torch.allclose(linear_imputation(flat, removed, FINE), flat)
    nothing = torch.zeros_like(removed)
    assert torch.equal(linear_imputation(images, nothing), images)


def test_scale_is_kept():
    images, removed = random_case(3, (16, 16), 0.5, 4)
    for scale in (1e-6, 1e6):
        scaled = linear_imputation((images * scale).float(), removed).double() / scale
        assert torch.allclose(scaled, linear_imputation(images.float(), removed).double(), atol=1e-5)


def test_a_single_known_pixel_fills_the_image():
    removed = torch.ones(1, 1, 20, 30, dtype=torch.bool)
    removed[..., 7, 3] = False
    images = torch.zeros(1, 1, 20, 30, dtype=torch.float64)
    images[..., 7, 3] = 2.5
    assert torch.allclose(linear_imputation(images, removed, FINE), torch.full_like(images, 2.5), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (8, 8), (33, 20)])
def test_no_known_pixel_gives_the_mean(size):
    filled = linear_imputation(torch.ones(2, 3, *size), torch.ones(2, 1, *size, dtype=torch.bool))
    assert torch.equal(filled, torch.zeros(2, 3, *size))


def test_rows_do_not_depend_on_the_batch(monkeypatch):
    """Rows that need many steps beside rows that need few or are broken, in parts of any size."""
    images, removed = random_case(4, (24, 24), 0.9, 8)
    removed[1] = False
    removed[1, ..., 0, 0] = True
    images[2, 0, 0, 0] = torch.nan
    removed[2, ..., 0, 0] = False
    whole = linear_imputation(images, removed)
    assert whole[:2].isfinite().all()
    monkeypatch.setattr("sibx.metrics.faithfulness.imputation.CACHE", 1)
    assert torch.allclose(linear_imputation(images, removed), whole, equal_nan=True)
    assert linear_imputation(images[:0], removed[:0]).shape == (0, 2, 24, 24)


def test_half_precision():
    images, removed = random_case(5, (16, 16), 0.5)
    filled = linear_imputation(images.bfloat16(), removed)
    assert filled.dtype == torch.bfloat16
    assert torch.allclose(filled.double(), dense(images.bfloat16().double(), removed), atol=0.05)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in the peer
def test_oracle():
    """The imputer in grad-cam 1.5.7, which solves the same system directly."""
    peer = installed("pytorch_grad_cam.metrics.road", "grad-cam", "1.5.7").NoisyLinearImputer(noise=0)
    images, removed = random_case(6, (20, 15), 0.7, 3)
    filled = linear_imputation(images, removed, FINE)
    for image, hole, ours in zip(images, removed, filled, strict=True):
        theirs = peer(image.float(), (~hole[0]).float())
        assert torch.allclose(ours.float(), theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 4, 4)}, r"`images` must be a floating-point tensor of shape \(B, C, H, W\)"),
        ({"removed": torch.zeros(2, 1, 4, 4)}, r"`removed` must be a bool tensor of shape \(2, 1, 4, 4\)"),
        ({"tolerance": 1e-5}, r"`tolerance` must lie in \[0.000345267, 1\], but got 1e-05"),
        ({"tolerance": 2}, "`tolerance` must lie in"),
    ],
)
def test_errors(change, message):
    case = {"images": torch.zeros(2, 3, 4, 4), "removed": torch.zeros(2, 1, 4, 4, dtype=torch.bool), **change}
    with pytest.raises(ValueError, match=message):
        linear_imputation(**case)
