"""Confidence on masked images: against the slow forms, ranges, scale, undefined cases, what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.metrics import (
    METRICS,
    Confidence,
    adcc,
    average_drop,
    average_gain,
    coherency,
    confidence,
    increase_in_confidence,
    masked_probability,
)
from tests.references import TWINS
from tests.references import confidence as reference

SIDE, CLASSES = 6, 3
SCORES = (average_drop, increase_in_confidence, average_gain)
WEIGHTS = torch.randn(3 * SIDE * SIDE, CLASSES, generator=torch.Generator().manual_seed(7), dtype=torch.float64) / 4


def model(images):
    """A linear classifier, on which every pixel counts."""
    return images.flatten(1) @ WEIGHTS


def explain(images, targets):
    """A map that depends on the image and the target."""
    weights = WEIGHTS[:, targets].T.view(-1, *images.shape[1:])
    return (images * weights).sum(1, keepdim=True).abs()


def random_case(seed, levels=None):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    heatmaps = torch.rand(4, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    if levels:
        heatmaps = (heatmaps * levels).floor()
        heatmaps[..., 0, 0], heatmaps[..., 0, 1] = 0, levels
    return images, heatmaps, torch.tensor([0, 2, 1, 1])


def whole(images, heatmaps, targets, **options):
    c = confidence(model, images, heatmaps, targets, **options)
    return torch.stack([*(score(c) for score in SCORES), adcc(c, explain, images, heatmaps, targets, **options)], 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 3]))
def test_confidence_is_the_definition(seed, levels):
    images, heatmaps, targets = random_case(seed, levels)
    c = confidence(model, images, heatmaps, targets)
    found = adcc(c, explain, images, heatmaps, targets)
    for i, (image, heatmap, target) in enumerate(zip(images, heatmaps, targets, strict=True)):

        def probability(x, target=target):
            return model(torch.from_numpy(x)[None]).softmax(1)[0, target].item()

        def again(x, target=target):
            return explain(torch.from_numpy(x)[None], target[None])[0, 0].numpy()

        x, a = image.numpy(), heatmap[0].numpy()
        clean, masked = probability(x), probability(reference.explanation_map(x, a))
        assert (c.clean[i].item(), c.masked[i].item()) == pytest.approx((clean, masked))
        for score in SCORES:
            assert score(c)[i].item() == pytest.approx(TWINS[score](clean, masked))
        assert found[i].item() == pytest.approx(TWINS[adcc](probability, again, x, a))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-20, 1e20), level=st.floats(0, 100))
def test_properties(seed, scale, level):
    images, heatmaps, targets = random_case(seed)
    values = whole(images, heatmaps, targets)
    assert values.dtype == torch.float64
    assert ((values >= 0) & (values <= 1)).all()
    assert torch.allclose(whole(images, (heatmaps + level) * scale, targets), values)
    assert torch.allclose(whole(images.flip(0), heatmaps.flip(0), targets.flip(0)), values.flip(0))
    for size in (1, 3):
        assert torch.allclose(whole(images, heatmaps, targets, batch_size=size), values)


def test_what_the_target_looks_at_is_kept():
    """A classifier of the left half: a map of it loses nothing, a map of the other half all there is to lose."""

    def half(images):
        return torch.stack([images[..., :3].mean((1, 2, 3)) * 4, torch.zeros(len(images))], 1).double()

    images, targets = torch.ones(2, 3, SIDE, SIDE), torch.tensor([0, 0])
    heatmaps = torch.zeros(2, 1, SIDE, SIDE)
    heatmaps[0, ..., :3], heatmaps[1, ..., 3:] = 1, 1
    c = confidence(half, images, heatmaps, targets)
    clean = 1 / (1 + np.exp(-4))
    assert average_drop(c).tolist() == pytest.approx([0, (clean - 0.5) / clean])
    assert increase_in_confidence(c).tolist() == [0, 0]
    assert average_gain(c).tolist() == [0, 0]
    other = confidence(half, -images, heatmaps, targets)  # evidence against the class: hiding it is a gain
    assert average_drop(other).tolist() == [0, 0]
    assert increase_in_confidence(other).tolist() == [0, 1]
    assert average_gain(other).tolist() == pytest.approx([0, (0.5 - (1 - clean)) / clean])


def test_extremes_of_the_probabilities():
    """Nothing can be lost of 0, nothing gained on 1; a tie is no increase."""
    c = Confidence(*torch.tensor([[0, 1, 0.5, 0.25], [0.5, 1, 0.5, 0.75]], dtype=torch.float64))
    assert torch.allclose(
        torch.stack([score(c) for score in SCORES]),
        torch.tensor([[torch.nan, 0, 0, 0], [1, 0, 0, 1], [0.5, torch.nan, 0, 2 / 3]], dtype=torch.float64),
        equal_nan=True,
    )


def test_undefined_maps_are_nan():
    images, heatmaps, targets = (torch.cat([part, part[:2]]) for part in random_case(0))
    heatmaps[0], heatmaps[1] = 0, 0.3
    heatmaps[2, ..., 0, 0], heatmaps[3, ..., 0, 0] = torch.nan, torch.inf
    images[4, 0, 0, 0] = torch.nan
    assert whole(images, heatmaps, targets).isnan().all(1).tolist() == [True] * 5 + [False]
    assert masked_probability(model, images, heatmaps, targets).isnan().tolist() == [True] * 5 + [False]


class TestCoherency:
    def test_the_same_map_the_reverse_and_none(self):
        images, heatmaps, targets = random_case(1)
        answers = torch.stack([heatmaps[0] * 3 + 1, 1 - heatmaps[1], torch.full_like(heatmaps[2], 0.1), heatmaps[3]])
        answers[3, 0, 0, 0] = torch.nan
        found = coherency(lambda *_: answers, images, heatmaps, targets)
        assert found[:3].tolist() == pytest.approx([1, 0, 0])
        assert found[3].isnan()

    def test_adcc_is_zero_where_a_part_is(self):
        images, heatmaps, targets = random_case(1)
        c = confidence(model, images, heatmaps, targets)
        assert (adcc(c, lambda *_: 1 - heatmaps, images, heatmaps, targets) < 1e-10).all()
        gone = c._replace(masked=torch.zeros(4, dtype=torch.float64))
        assert (adcc(gone, explain, images, heatmaps, targets) == 0).all()

    def test_explains_in_parts(self):
        images, heatmaps, targets = random_case(2)
        sizes = []

        def counting(x, t):
            sizes.append((len(x), len(t)))
            return explain(x, t)

        coherency(counting, images, heatmaps, targets, batch_size=3)
        assert sizes == [(3, 3), (1, 1)]


def test_the_metrics_of_a_method_share_their_passes(explained):
    """One pass over the clean images, one over the masked ones, one more explanation."""
    passes, sizes = [], []

    def counting(images):
        passes.append(len(images))
        return explained.model(images)

    def explaining(images, targets):
        sizes.append(len(images))
        return explained.explain(images, targets)

    shared = replace(explained, model=counting, explain=explaining)
    for name in ("average_drop", "increase_in_confidence", "average_gain", "adcc"):
        METRICS[name].score(shared)
    assert (passes, sizes) == ([4, 4], [4])


def test_explaining_again_takes_a_function(explained):
    with pytest.raises(ValueError, match="`explain` must be given for a metric that explains again, but got None"):
        METRICS["adcc"].score(replace(explained, explain=None))


SHARED_ERRORS = [
    ({"images": torch.zeros(4, SIDE, SIDE)}, r"`images` must be a floating-point tensor of shape \(B, C, H, W\)"),
    ({"heatmaps": torch.zeros(4, 3, SIDE, SIDE)}, "`heatmaps` must be a floating-point tensor of shape"),
    ({"heatmaps": torch.zeros(4, 1, 5, SIDE)}, r"`heatmaps` must be of size \(6, 6\), but got a float32 tensor"),
    ({"heatmaps": torch.zeros(3, 1, SIDE, SIDE)}, "`heatmaps` must have 4 rows, one per image"),
    ({"targets": torch.zeros(3, dtype=torch.int64)}, "`targets` must have 4 rows, one per image"),
    ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
]
MODEL_ERRORS = [
    ({"targets": torch.full((4,), CLASSES)}, r"`targets` must lie in 0..2, the model's classes"),
    ({"model": lambda x: x}, "`model` must return logits of shape"),
]


@pytest.mark.parametrize(("change", "message"), SHARED_ERRORS + MODEL_ERRORS)
def test_errors(change, message):
    images, heatmaps, targets = random_case(0)
    case = {"model": model, "images": images, "heatmaps": heatmaps, "targets": targets}
    with pytest.raises(ValueError, match=message):
        confidence(**{**case, **change})


@pytest.mark.parametrize(("change", "message"), SHARED_ERRORS)
def test_errors_of_coherency(change, message):
    images, heatmaps, targets = random_case(0)
    case = {"explain": explain, "images": images, "heatmaps": heatmaps, "targets": targets}
    with pytest.raises(ValueError, match=message):
        coherency(**{**case, **change})


def test_explain_has_to_give_heatmaps():
    images, heatmaps, targets = random_case(0)
    with pytest.raises(ValueError, match=r"`explain` must return floating-point heatmaps of shape \(4, 1, 6, 6\)"):
        coherency(lambda x, _: x, images, heatmaps, targets)
    with pytest.raises(ValueError, match="`c` must have 4 rows, one per image"):
        adcc(Confidence(torch.ones(3), torch.ones(3)), explain, images, heatmaps, targets)
