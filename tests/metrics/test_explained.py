"""What metrics look at: computed once, curves kept, and neither in a copy."""

from dataclasses import replace

import pytest
import torch

from sibx.metrics import METRICS, Explained


def test_once(explained):
    """The same object for whoever asks; a copy with other images computes its own."""
    calls = []

    def brightness(e):
        calls.append(e)
        return e.images.mean((1, 2, 3))

    def contrast(e):
        return e.images.std() / e.once(brightness)

    assert explained.once(brightness) is explained.once(brightness)
    assert torch.equal(explained.once(contrast), explained.images.std() / explained.once(brightness))
    assert len(calls) == 1
    brighter = replace(explained, images=explained.images + 1)
    assert torch.allclose(brighter.once(brightness), explained.once(brightness) + 1)
    assert [e is explained for e in calls] == [True, False]


def test_keep(explained):
    x, y = torch.arange(3.0), torch.ones(4, 3)
    explained.keep("mine", x, y)
    assert explained.curves["mine"][0] is x
    assert explained.curves["mine"][1] is y
    assert replace(explained).curves == {}


def test_signed(explained):
    assert explained.signed is explained.heatmaps
    attributions = explained.heatmaps - 0.5
    assert replace(explained, attributions=attributions).signed is attributions


def test_by_keyword_only(explained):
    with pytest.raises(TypeError, match="positional"):
        Explained(explained.heatmaps, explained.masks)


@pytest.mark.parametrize("name", [n for n, spec in METRICS.items() if spec.needs_module])
def test_metrics_that_change_the_model_need_a_module_and_a_method(name, explained):
    for change in ({"explain_with": None}, {"model": lambda x: x.flatten(1)}):
        with pytest.raises(ValueError, match=r"`explain_with` must be given, and the model be a torch.nn.Module"):
            METRICS[name].score(replace(explained, **change))
