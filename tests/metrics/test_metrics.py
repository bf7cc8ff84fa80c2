"""The METRICS table as a whole, and the record that its metrics score."""

from dataclasses import replace

import pytest
import torch

from sibx import metrics
from sibx.metrics import METRICS
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
    low, high = spec.bounds
    assert (values >= low).all()
    assert (values <= high).all()
    assert spec.needs_model or not explained.curves


@pytest.mark.parametrize("spec", METRICS.values(), ids=METRICS)
def test_every_metric_says_what_it_is(spec):
    for text in (spec.title, spec.formula, spec.chance, spec.reference):
        assert text
        assert "\n" not in text
    assert spec.bounds[0] < spec.bounds[1]


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
