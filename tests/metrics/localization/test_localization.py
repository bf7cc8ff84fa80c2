"""Localization: against the slow forms, and properties: range, scale, ties, undefined cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.metrics import (
    METRICS,
    attribution_localization,
    average_precision,
    average_precision_both,
    background_suppression,
    best_iou,
    foreground_focus,
    foreground_lift,
    iou,
    iou_at_mean,
    iou_over_thresholds,
    pixel_accuracy,
    pointing_game,
    relevance_rank,
    roc_auc,
    topk_intersection,
)
from sibx.metrics.localization import _overlap, largest, thresholds
from tests.references import TWINS

RANKING = (relevance_rank, topk_intersection, iou, best_iou, average_precision, roc_auc)
SEGMENTATION = (iou_at_mean, pixel_accuracy, average_precision_both, iou_over_thresholds)
LOCALIZATION = (foreground_focus, foreground_lift, background_suppression, pointing_game, *RANKING, *SEGMENTATION)


def random_case(seed, batch=3, size=12, levels=None):
    """Heatmaps (with few distinct values if levels is given) and masks."""
    generator = torch.Generator().manual_seed(seed)
    heatmaps = torch.rand(batch, 1, size, size, generator=generator, dtype=torch.float64)
    if levels:
        heatmaps = (heatmaps * levels).floor()
    masks = torch.rand(batch, 1, size, size, generator=generator) < 0.2
    masks[:, :, 0, 0], masks[:, :, 1, 1] = True, False
    return heatmaps + 0.01, masks


def rows(heatmaps, masks):
    return zip(heatmaps[:, 0].numpy(), masks[:, 0].numpy(), strict=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([None, 2, 5]),
    tolerance=st.sampled_from([0, 1, 1.5, 3]),
    k=st.sampled_from([1, 7, 100]),
)
def test_localization_is_the_definition(seed, levels, tolerance, k):
    heatmaps, masks = random_case(seed, levels=levels)
    options = {pointing_game: {"tolerance": tolerance}, topk_intersection: {"k": k}}
    for score in LOCALIZATION:
        if score is iou and levels:
            continue  # the slow form takes a set of the largest pixels, which ties leave open
        chosen = options.get(score, {})
        expected = [TWINS[score](a, s, **chosen) for a, s in rows(heatmaps, masks)]
        assert score(heatmaps, masks, **chosen).numpy() == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_localization_properties(seed, scale):
    heatmaps, masks = random_case(seed)
    for score in LOCALIZATION:
        values = score(heatmaps, masks)
        assert values.dtype == torch.float64
        assert values.shape == (3,)
        assert (values >= 0).all()
        assert torch.allclose(score(heatmaps * scale, masks), values)
        assert torch.allclose(score(heatmaps.flip(0), masks.flip(0)), values.flip(0))
        alone = torch.cat([score(heatmaps[i : i + 1], masks[i : i + 1]) for i in range(3)])
        assert torch.equal(alone, values)


def test_perfect_inverse_and_flat_maps():
    _, masks = random_case(0)
    perfect, inverse, flat = masks.double(), (~masks).double(), torch.ones(3, 1, 12, 12, dtype=torch.float64)
    area = masks.double().mean((1, 2, 3))
    assert (foreground_focus(perfect, masks) == 1).all()
    assert (background_suppression(perfect, masks) == 1).all()
    for score in (*RANKING, *SEGMENTATION):
        assert torch.allclose(score(perfect, masks), torch.ones(3, dtype=torch.float64)), score
    for score in (topk_intersection, best_iou, average_precision):
        assert torch.allclose(score(flat, masks), area), score
    assert torch.allclose(iou_over_thresholds(flat, masks), area)
    assert torch.allclose(roc_auc(flat, masks), torch.full((3,), 0.5, dtype=torch.float64))
    assert torch.allclose(relevance_rank(flat, masks), area)
    assert torch.allclose(iou(flat, masks), area / (2 - area))
    assert (pointing_game(perfect, masks, tolerance=0) == 1).all()
    assert torch.allclose(foreground_lift(perfect, masks), 1 / area)
    for score in set(LOCALIZATION) - {
        best_iou,
        average_precision,
        average_precision_both,
    }:  # whose lowest threshold takes every pixel
        assert (score(inverse, masks, **({"tolerance": 0} if score is pointing_game else {})) == 0).all(), score
    assert torch.allclose(best_iou(inverse, masks), area)
    assert average_precision_both(inverse, masks).tolist() == average_precision_both(flat, masks).tolist() == 3 * [0.5]
    assert torch.allclose(iou_at_mean(flat, masks), (1 - area) / 2)
    assert torch.allclose(pixel_accuracy(flat * 0.1, masks), 1 - area)
    assert torch.allclose(foreground_focus(flat, masks), area)
    assert torch.allclose(background_suppression(flat, masks), torch.full((3,), 0.5, dtype=torch.float64))
    assert torch.allclose(pointing_game(flat, masks, tolerance=0), area)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_attribution_localization_is_the_definition(seed):
    """Of signed maps; of maps without negative values it is the foreground focus, weighted the lift."""
    heatmaps, masks = random_case(seed)
    signed = heatmaps - 0.5
    mu = [TWINS[attribution_localization](a, s) for a, s in rows(signed, masks)]
    assert attribution_localization(signed, masks).numpy() == pytest.approx(mu)
    weighted = [m * s.size / s.sum() for m, (_, s) in zip(mu, rows(signed, masks), strict=True)]
    assert attribution_localization(signed, masks, weighted=True).numpy() == pytest.approx(weighted)
    assert torch.equal(attribution_localization(heatmaps, masks), foreground_focus(heatmaps, masks))
    assert torch.equal(attribution_localization(heatmaps, masks, weighted=True), foreground_lift(heatmaps, masks))


def test_attribution_localization_undefined_and_errors():
    maps, masks = torch.full((4, 1, 2, 2), -1.0), torch.zeros(4, 1, 2, 2, dtype=torch.bool)
    masks[..., 0] = True
    maps[1:, :, 0] = 1
    maps[2, 0, 1, 1], maps[3, 0, 1, 1] = -torch.inf, 5
    undefined = torch.zeros_like(masks)
    undefined[3, 0, 1, 1] = True
    for weighted, half in ((False, 0.5), (True, 0.75)):
        values = attribution_localization(maps, masks, undefined=undefined, weighted=weighted)
        assert values.isnan().tolist() == [True, False, True, False]
        assert values[3].item() == half
    with pytest.raises(ValueError, match="`attributions` must be a floating-point tensor"):
        attribution_localization(torch.zeros(2, 3, 4, 4), masks)
    with pytest.raises(ValueError, match="`masks` must be a bool tensor"):
        attribution_localization(maps, masks.float())


def test_background_suppression_does_not_depend_on_object_size():
    """Twice the strength inside gives 2/3, for a small and for a large object."""
    masks = torch.zeros(2, 1, 10, 10, dtype=torch.bool)
    masks[0, :, :2, :2], masks[1, :, :8, :8] = True, True
    assert torch.allclose(
        background_suppression(1.0 + masks.double(), masks), torch.full((2,), 2 / 3, dtype=torch.float64)
    )


def test_default_tolerance_scales_with_the_image():
    """15 px at 224: 2.14 px at 32. A maximum 2 px off the object hits, 3 px off misses."""
    masks = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 10, 10] = True
    heatmaps = torch.zeros(2, 1, 32, 32)
    heatmaps[0, 0, 10, 12] = heatmaps[1, 0, 10, 13] = 1
    assert pointing_game(heatmaps, masks).tolist() == [1, 0]


def test_pointing_game_at_the_border():
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[..., 0, 7] = True
    heatmaps = torch.zeros(1, 1, 8, 8)
    heatmaps[..., 1, 0] = 1  # next to the object only if rows wrapped around
    assert pointing_game(heatmaps, masks, tolerance=1).item() == 0


def test_undefined_pixels_take_no_part():
    heatmaps, masks = random_case(1)
    undefined = torch.zeros_like(masks)
    undefined[..., 6:] = True
    for score in LOCALIZATION:
        options = {pointing_game: {"tolerance": 0}, topk_intersection: {"k": 3}}.get(score, {})
        part = score(heatmaps, masks, undefined=undefined, **options)
        assert torch.allclose(part, score(heatmaps[..., :6], masks[..., :6], **options))
        loud = heatmaps.masked_fill(undefined, 1e9)
        assert torch.equal(score(loud, masks, undefined=undefined, **options), part)


@pytest.mark.parametrize("score", LOCALIZATION)
def test_undefined_images_are_nan(score):
    heatmaps = torch.ones(7, 1, 8, 8)
    masks = torch.zeros(7, 1, 8, 8, dtype=torch.bool)
    masks[..., :4] = True
    masks[0], masks[1] = False, True
    heatmaps[2] = 0
    heatmaps[3, 0, 0, 0], heatmaps[4, 0, 0, 0] = torch.nan, torch.inf
    undefined = torch.zeros_like(masks)
    undefined[5, ..., 4:] = True  # nothing but object is left
    assert score(heatmaps, masks, undefined=undefined).isnan().tolist() == [True] * 6 + [False]


@pytest.mark.parametrize("score", LOCALIZATION)
def test_empty_batch(score):
    assert score(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4, dtype=torch.bool)).shape == (0,)


@pytest.mark.parametrize(
    ("heatmaps", "masks", "message"),
    [
        (torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4, 4).bool(), "`heatmaps` must be a floating-point tensor of shape"),
        (torch.ones(2, 1, 4, 4).int(), torch.ones(2, 1, 4, 4).bool(), "`heatmaps` must be a floating-point"),
        (
            torch.ones(2, 1, 4, 4),
            torch.ones(2, 1, 2, 2).bool(),
            r"`masks` must be a bool tensor of shape \(2, 1, 4, 4\)",
        ),
        (torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4), "`masks` must be a bool tensor .* a float32 tensor"),
        (-torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4).bool(), "`heatmaps` must be at least 0, but got -1"),
    ],
)
def test_localization_errors(heatmaps, masks, message):
    for score in LOCALIZATION:
        with pytest.raises(ValueError, match=message):
            score(heatmaps, masks)


def test_ranking_depends_on_the_order_only():
    heatmaps, masks = random_case(3)
    for score in RANKING:
        assert torch.allclose(score(heatmaps.square(), masks), score(heatmaps, masks)), score


def test_top_k_scales_with_the_area():
    """1000 px of 224 x 224 are 3 of 12 x 12."""
    heatmaps, masks = random_case(0)
    assert torch.equal(topk_intersection(heatmaps, masks), topk_intersection(heatmaps, masks, k=3))
    with pytest.raises(ValueError, match="`k` must be at least 1, but got 0"):
        topk_intersection(heatmaps, masks, k=0)


def test_tolerance_must_not_be_negative():
    heatmaps, masks = random_case(0)
    with pytest.raises(ValueError, match="`tolerance` must be at least 0"):
        pointing_game(heatmaps, masks, tolerance=-1)


@pytest.mark.parametrize("score", LOCALIZATION)
def test_only_keywords_after_the_masks(score):
    heatmaps, masks = random_case(0)
    with pytest.raises(TypeError, match="positional"):
        score(heatmaps, masks, ~masks)


@pytest.mark.parametrize("score", LOCALIZATION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_single_precision_gives_the_numbers_of_double_precision(score, dtype):
    """Values are exact in double precision, and so is what is added up."""
    heatmaps = (random_case(5, size=40)[0] ** 8).to(dtype)
    masks = random_case(5, size=40)[1]
    assert torch.allclose(score(heatmaps, masks), score(heatmaps.double(), masks), rtol=1e-12, atol=0)


@pytest.mark.parametrize("score", LOCALIZATION)
def test_blocks_of_rows_change_nothing(score, monkeypatch):
    heatmaps, masks = random_case(6, batch=5)
    whole = score(heatmaps, masks)
    monkeypatch.setattr(_overlap, "CACHE", 1)
    assert torch.equal(score(heatmaps, masks), whole)


@pytest.mark.parametrize("score", LOCALIZATION)
def test_memory_layouts_do_not_matter(score):
    heatmaps, masks = random_case(7)
    strided = heatmaps.expand(-1, 2, -1, -1).contiguous(memory_format=torch.channels_last)[:, :1]
    assert torch.equal(score(strided, masks), score(heatmaps, masks))
    turned = heatmaps.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(score(turned, masks), score(heatmaps, masks))
    shared = masks[:1].expand(3, -1, -1, -1)
    assert torch.equal(score(heatmaps, shared), score(heatmaps, shared.clone()))
    before = heatmaps.clone()
    score(heatmaps.requires_grad_(), masks)
    assert torch.equal(heatmaps, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_are_ties_only(dtype):
    """Neighbors in the last bit are different values, also above 2, and -0.0 is 0."""
    low = torch.tensor(3.0, dtype=dtype)
    high = torch.nextafter(low, torch.tensor(4.0, dtype=dtype))
    heatmaps = torch.stack([high, low, torch.tensor(-0.0, dtype=dtype), torch.tensor(0.0, dtype=dtype)]).view(
        1, 1, 1, 4
    )
    masks = torch.tensor([True, False, True, False]).view(1, 1, 1, 4)
    assert roc_auc(heatmaps, masks).item() == (2 + 0 + 0.5) / 4
    assert average_precision(heatmaps, masks).item() == (1 + 2 / 4) / 2
    assert best_iou(heatmaps, masks).item() == 1 / 2
    assert topk_intersection(heatmaps, masks, k=1).item() == pointing_game(heatmaps, masks, tolerance=0).item() == 1


def test_a_broken_map_does_not_hide_a_negative_value():
    heatmaps, masks = random_case(0)
    heatmaps[0, 0, 3, 3], heatmaps[0, 0, 4, 4] = torch.nan, -2
    for score in LOCALIZATION:
        with pytest.raises(ValueError, match="`heatmaps` must be at least 0, but got -2"):
            score(heatmaps, masks)


@pytest.mark.parametrize("score", [foreground_focus, foreground_lift, background_suppression])
def test_a_mass_beyond_numbers_is_a_mass(score):
    """The sum of such values is no number, and what it is divided by none either."""
    heatmaps, masks = random_case(0)
    for scale in (2.0**1023, 2.0**-1000):
        assert torch.equal(score(heatmaps * scale, masks), score(heatmaps, masks))
    assert torch.allclose(score(heatmaps.float() * 1e38, masks), score(heatmaps, masks), rtol=1e-5)


def test_the_table_checks_and_sorts_once(explained, monkeypatch):
    made, sort = [], _overlap.Overlap.ordered.func
    monkeypatch.setattr(_overlap.Overlap.ordered, "func", lambda o: made.append(o) or sort(o))
    for spec in METRICS.values():
        if spec.needs_masks:
            spec.score(explained)
    once, both = made  # both answers of every pixel are another ranking
    assert once is explained.once(_overlap.overlap)
    assert both.size == (1, 2 * once.size.numel())


@pytest.mark.parametrize("levels", [None, 2, 5])
def test_a_gpu_gets_the_levels_of_all_maps_at_once(levels):
    """With the same scores, undefined pixels, zeros and broken maps included."""
    heatmaps, masks = random_case(8, batch=4, levels=levels)
    heatmaps[1], heatmaps[2, 0, 2, 2] = heatmaps[1] - heatmaps[1].min(), torch.nan
    undefined = random_case(9, batch=4)[1]
    for o in (_overlap.Overlap(heatmaps, masks), _overlap.Overlap(heatmaps, masks, undefined)):
        at_once = _overlap._levels_of_pixels(o.ordered, o.background_pixels)
        for score in (largest._share_of_first, thresholds._largest_iou, thresholds.mean_precision):
            found = o.where_defined(score(at_once), o.largest)
            assert torch.allclose(found, o.by_levels(score), rtol=1e-12, atol=0, equal_nan=True)
            assert found.isnan().tolist() == [False, False, True, False]
        found = o.where_defined(thresholds._area_under_roc(at_once), o.largest)
        assert torch.equal(found.nan_to_num(2), o.by_levels(thresholds._area_under_roc).nan_to_num(2))
