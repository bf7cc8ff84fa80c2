"""The METRICS table as a whole, and the record that its metrics score."""

import math
from dataclasses import replace

import pytest
import torch

from sibx import metrics
from sibx.metrics import METRICS
from sibx.metrics.complexity import COMPLEXITY
from sibx.metrics.localization import LOCALIZATION
from tests.references import TWINS, twin_of


@pytest.mark.parametrize("name", [n for n, spec in METRICS.items() if spec.needs_masks])
def test_the_table_leaves_undefined_pixels_out(name, explained):
    """Neither the heatmap nor the mask matters there; without the undefined pixels both do."""
    score = METRICS[name].score
    loud = replace(explained, heatmaps=explained.heatmaps.where(~explained.undefined, 3 * explained.heatmaps.flip(2)))
    other = replace(explained, masks=explained.masks ^ explained.undefined)
    assert torch.equal(score(loud), score(explained))
    assert torch.equal(score(other), score(explained))
    everywhere = torch.zeros_like(explained.undefined)
    assert not torch.equal(score(replace(explained, undefined=everywhere)), score(explained))
    assert score(replace(explained, undefined=~everywhere)).isnan().all()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_scores_what_was_explained(name, explained):
    spec = METRICS[name]
    values = spec.score(explained)
    assert spec.name == name
    assert values.shape == (4,)
    assert values.dtype == torch.float64
    assert values.isnan().tolist() == 4 * [name in ("sic", "aic")]  # the untrained network is sure of nothing
    values = values.nan_to_num()
    low, high = spec.bounds
    assert (values >= low).all()
    assert (values <= high).all()
    assert spec.needs_model or name == "iou_over_thresholds" or not explained.curves


@pytest.mark.parametrize("spec", METRICS.values(), ids=METRICS)
def test_every_metric_says_what_it_is(spec):
    for text in (spec.title, spec.formula, spec.chance, spec.reference):
        assert text
        assert "\n" not in text
    assert spec.bounds[0] < spec.bounds[1]


SHARES, POSITIVE, SIGNED, INF = (0, 1), (0, math.inf), (-1, 1), math.inf
BEST_IS_HIGHEST = {
    SHARES: "foreground_focus background_suppression pointing_game relevance_rank iou topk_intersection best_iou "
    "average_precision roc_auc iou_at_mean pixel_accuracy average_precision_both iou_over_thresholds insertion "
    "lerf sic aic increase_in_confidence average_gain adcc road_lerf sparseness",
    POSITIVE: "foreground_lift normalized_insertion",
    SIGNED: "insertion_minus_deletion srg aopc road sensitivity_n single_deletion",
    (-INF, 1): "irof",
    (-1, INF): "complexity_rise",
}
BEST_IS_LOWEST = {
    SHARES: "deletion average_drop road_morf effective_complexity",
    POSITIVE: "normalized_deletion infidelity max_sensitivity completeness entropy "
    "relative_input_stability relative_output_stability relative_representation_stability",
    SIGNED: "randomization random_logit",
}


def test_metrics_have_the_range_and_the_direction_of_their_papers():
    expected = {
        name: (bounds, higher)
        for higher, groups in ((True, BEST_IS_HIGHEST), (False, BEST_IS_LOWEST))
        for bounds, names in groups.items()
        for name in names.split()
    }
    assert {name: (METRICS[name].bounds, METRICS[name].higher_is_better) for name in expected} == expected


def test_every_metric_says_what_it_needs(explained):
    """One that needs no model never calls it; one that needs no masks never looks at them."""

    def never(images):
        raise AssertionError("the model was called")

    for name, spec in METRICS.items():
        if not spec.needs_model:
            spec.score(replace(explained, model=never))
        if spec.needs_masks:
            assert spec.score(replace(explained, masks=~explained.masks | True)).isnan().all(), name
    assert {name for name, spec in METRICS.items() if spec.needs_masks} == set(LOCALIZATION)
    without = {name for name, spec in METRICS.items() if not spec.needs_model}
    assert without == {*LOCALIZATION, *COMPLEXITY}
    assert METRICS["randomization"].needs_module
    assert METRICS["complexity_rise"].needs_module


def test_every_metric_of_the_table_is_a_public_function():
    assert set(METRICS) <= set(metrics.__all__)
    assert all(getattr(metrics, name).__doc__ for name in METRICS)


def test_every_metric_has_a_slow_twin():
    assert [name for name in METRICS if getattr(metrics, name, None) not in TWINS] == []


def test_a_twin_has_the_name_of_its_function_and_is_the_only_one():
    with pytest.raises(AssertionError, match="sparseness has a twin already"):
        twin_of(metrics.sparseness)(metrics.sparseness)
    with pytest.raises(AssertionError):
        twin_of(metrics.coherency)(metrics.sparseness)
