"""Adaptive deletion and insertion: where they measure, what they promise, and what they cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.metrics import adaptive_deletion, adaptive_insertion, deletion, insertion
from sibx.metrics.curves.adaptive import _variance
from tests.references import curves as reference

PAIRS = ((adaptive_deletion, deletion), (adaptive_insertion, insertion))


@pytest.fixture
def case(model):
    generator = torch.Generator().manual_seed(3)
    images = 3 * torch.randn(5, 3, 16, 16, generator=generator, dtype=torch.float64)
    heatmaps = (torch.rand(5, 1, 16, 16, generator=generator) * 40).ceil()
    model.classifier.weight.data *= 100  # as sure of itself as a trained one
    return model, images, heatmaps, model.double()(images).argmax(1)


def replay(curve, **options):
    """Adaptive deletion of an image whose model answers with this curve (steps + 1,); also the sizes of the passes."""
    steps, passes = len(curve) - 1, []
    images = torch.ones(1, 1, steps, 1)
    order = torch.arange(steps, 0, -1.0).view(1, 1, steps, 1)

    def model(frames):
        passes.append(len(frames))
        p = curve[steps - frames.sum((1, 2, 3)).long()]
        return torch.stack([p, 1 - p], 1).log()

    return adaptive_deletion(model, images, order, torch.tensor([0]), steps=steps, **options), passes


def walk(seed, steps, scale=3.0):
    """A rough curve in (0, 1) that falls on the whole, (steps + 1,)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, generator=generator, dtype=torch.float64).cumsum(0) * scale / steps**0.5
    x = torch.arange(steps + 1) / steps
    center = torch.rand(1, generator=generator)
    return (12 * (center - x) + torch.cat([torch.zeros(1), noise])).sigmoid()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.sampled_from([1, 3, 7, 10, 56]), tolerance=st.floats(1e-4, 0.1))
def test_is_the_definition(seed, steps, tolerance):
    curve = walk(seed, steps)
    result, passes = replay(curve, tolerance=tolerance)
    places, values = reference.adaptive(lambda i: curve[i].item(), steps, tolerance)
    assert result.points.tolist() == [len(places)] == [sum(passes)]
    assert (result.fractions[0] * steps).tolist() == pytest.approx(places)
    assert result.probabilities[0].tolist() == pytest.approx(values)
    assert result.auc.item() == pytest.approx(reference.area([i / steps for i in places], values))


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 40), steps=st.integers(40, 100), change=st.floats(-1, 1))
def test_variance_is_that_of_a_bridge(width, steps, change):
    """Between two points with nothing next to them; a single step has no error left."""
    positions, values = torch.tensor([[0, width]]), torch.tensor([[0.0, change]], dtype=torch.float64)
    length = width / steps
    expected = reference.bridge_variance(1.3 * change**2 / length, length, width)
    assert _variance(positions, values, steps).item() == pytest.approx(expected, abs=1e-15)


def test_the_tolerance_is_kept():
    """By 9 of 10 rough curves at least, where 28 equal steps keep it for fewer; from fewer points than these take."""
    errors, points, equal = [], [], []
    for curve in (walk(seed, 224) for seed in range(60)):
        result, _ = replay(curve)
        exact = torch.trapezoid(curve, dx=1 / 224).item()
        errors.append(abs(result.auc.item() - exact))
        equal.append(abs(torch.trapezoid(curve[::8], dx=1 / 28).item() - exact))
        points.append(result.points.item())
    kept, kept_by_equal = (np.mean(np.array(e) <= 0.005) for e in (errors, equal))
    assert kept >= 0.9 > kept_by_equal
    assert np.mean(points) < 29


class TestOnAModel:
    @pytest.mark.parametrize(("score", "whole"), PAIRS)
    def test_points_lie_on_the_curve_of_all_steps(self, case, score, whole):
        few, every = score(*case, steps=64, tolerance=0.001, batch_size=3), whole(*case, steps=64)
        places = (few.fractions * 64).round().long()
        assert torch.allclose(every.fractions[places], few.fractions)
        assert torch.allclose(every.probabilities.gather(1, places), few.probabilities)
        assert torch.allclose(torch.trapezoid(few.probabilities, few.fractions), few.auc)
        assert (few.auc - every.auc).abs().max() < 0.002
        assert (few.points < 60).all()
        assert len(set(few.points.tolist())) > 1

    @pytest.mark.parametrize(("score", "whole"), PAIRS)
    def test_no_tolerance_is_all_steps(self, case, score, whole):
        fine, every = score(*case, steps=20, tolerance=1e-12), whole(*case, steps=20)
        assert torch.allclose(fine.auc, every.auc)
        assert fine.points.tolist() == [21] * 5
        assert torch.allclose(fine.probabilities, every.probabilities)

    @pytest.mark.parametrize("steps", [1, 3])
    def test_fewer_steps_than_intervals_to_begin_with(self, case, steps):
        assert torch.allclose(adaptive_deletion(*case, steps=steps).auc, deletion(*case, steps=steps).auc)

    def test_a_flat_curve_needs_no_more_than_the_start(self, case):
        result = adaptive_deletion(lambda x: torch.zeros(len(x), 5), *case[1:])
        assert result.points.tolist() == [8] * 5
        assert result.auc.tolist() == pytest.approx([0.2] * 5)

    def test_images_are_refined_together(self, case):
        """One point of every unfinished image per round, in full passes."""
        model, *rest = case
        passes = []
        result = adaptive_deletion(lambda x: passes.append(len(x)) or model(x), *rest, steps=64, batch_size=4)
        assert sum(passes) == result.points.sum()
        assert passes[:10] == [4] * 10  # 5 images, 8 points each
        extra = (result.points - 8).tolist()
        rounds = [sum(e > r for e in extra) for r in range(max(extra))]
        expected = [size for r in rounds for size in ([4, r - 4] if r > 4 else [r])]
        assert passes[10:] == expected

    def test_rows_do_not_depend_on_the_batch(self, case):
        model, *rows = case
        options = {"steps": 64, "tolerance": 0.001}
        whole = adaptive_insertion(*case, **options)
        flipped = adaptive_insertion(model, *(r.flip(0) for r in rows), **options)
        assert torch.allclose(flipped.auc, whole.auc.flip(0))
        assert torch.equal(flipped.points, whole.points.flip(0))
        alone = [adaptive_insertion(model, *(r[i : i + 1] for r in rows), **options) for i in range(5)]
        assert torch.allclose(torch.cat([a.auc for a in alone]), whole.auc)
        for i, row in enumerate(alone):  # shorter rows repeat their last point
            n = row.points.item()
            assert torch.allclose(whole.fractions[i, :n], row.fractions[0])
            assert (whole.fractions[i, n:] == 1).all()
        assert adaptive_insertion(model, *(r[:0] for r in rows)).auc.shape == (0,)

    def test_undefined_maps_are_nan(self, case):
        case[2][1] = 0
        assert adaptive_deletion(*case, steps=14).auc.isnan().tolist() == [False, True, False, False, False]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tolerance": 0}, "`tolerance` must be above 0, but got 0"),
            ({"steps": 257}, r"`steps` must lie in \[1, 256\]"),
            ({"baseline": "gray"}, "`baseline` must be one of mean, black, blur, noise"),
            ({"heatmaps": torch.ones(5, 1, 8, 8)}, "`heatmaps` must be of size"),
        ],
    )
    def test_errors(self, case, change, message):
        good = dict(zip(("model", "images", "heatmaps", "targets"), case, strict=True))
        for score, _ in PAIRS:
            with pytest.raises(ValueError, match=message):
                score(**{**good, **change})
