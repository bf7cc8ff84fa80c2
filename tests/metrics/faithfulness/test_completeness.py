"""Completeness: the slow form, who promises it and keeps it, and where it is undefined."""

from dataclasses import replace

import captum.attr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx import METHODS, evaluate
from sibx.attribution import IntegratedGradients
from sibx.attribution.method import PartlyFits
from sibx.datasets import InMemoryDataset
from sibx.metrics import completeness
from tests.references import TWINS


def curved(images):
    """Three scores, on which what a pixel is worth depends on the others."""
    return torch.stack([images.square().sum((1, 2, 3)), images.sum((1, 2, 3)), images.prod(1).sum((1, 2))], 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_is_the_definition(seed):
    images, maps, starts = (normal(seed + i, 3, c, 4, 5) for i, c in enumerate((3, 1, 3)))
    targets = torch.tensor([0, 2, 1])
    found = completeness(curved, images, maps, targets, starts, batch_size=2)
    for i, t in enumerate(targets):
        parts = (part[i].numpy() for part in (images, maps, starts))
        slow = TWINS[completeness](lambda x, t=t: curved(torch.from_numpy(x)[None])[0, t].item(), *parts)
        assert found[i].item() == pytest.approx(slow)


def test_undefined_and_refused():
    images, targets = normal(0, 5, 3, 4, 4), torch.zeros(5, dtype=torch.long)
    maps, starts = images.sum(1, keepdim=True), torch.zeros_like(images)
    maps[0], maps[1, 0, 0, 0], maps[2, 0, 0, 0], starts[3] = 0, torch.nan, torch.inf, images[3]
    assert completeness(curved, images, maps, targets, starts).isnan().tolist() == [True] * 4 + [False]
    with pytest.raises(ValueError, match=r"`baselines` must have the shape of the images, \(5, 3, 4, 4\)"):
        completeness(curved, images, maps, targets, starts[:2])


def test_methods_that_promise_it(model, shapes):
    """Paths keep it; DeepLIFT cannot on a network of SiLU; others promise nothing; a start of one's own is told."""
    data = InMemoryDataset(shapes, [s._replace(label=i) for i, s in enumerate(shapes.samples[:3])])
    shifted = replace(
        METHODS["integrated_gradients"],
        name="from 1",
        build=lambda net, _: Shifted(net),
        baseline=torch.ones_like,
    )
    methods = {
        **{name: name for name in ("integrated_gradients", "idgi", "blur_ig", "deeplift", "saliency", "gradcam")},
        "captum": captum.attr.IntegratedGradients,
        "tunnel": captum.attr.NoiseTunnel(captum.attr.IntegratedGradients(model)),
        "from 1": shifted,
        "from 0": replace(shifted, name="from 0", baseline=torch.zeros_like),
    }
    with pytest.warns(PartlyFits, match="DeepLIFT's contributions sum to"):
        rows = evaluate(model, data, methods=methods, metrics="completeness", target="predicted", progress=False).rows
    median = rows.groupby("method", sort=False)["value"].median()
    assert (median[["integrated_gradients", "idgi", "blur_ig", "captum", "from 1"]] < 0.02).all(), median
    assert (median[["deeplift", "from 0"]] > 0.05).all(), median
    assert median[["saliency", "gradcam", "tunnel"]].isna().all()


def test_one_logit_scores_as_two(binary, shapes):
    data = InMemoryDataset(shapes, [s._replace(label=i) for i, s in enumerate(shapes.samples[:2])])
    data.classes = shapes.classes[:2]
    options = {"methods": "idgi", "metrics": "completeness", "target": "label", "progress": False}
    one, two = (evaluate(network, data, **options).rows["value"].tolist() for network in binary)
    assert one == pytest.approx(two, abs=1e-4)


class Shifted:
    """Integrated Gradients from an image of ones."""

    def __init__(self, model):
        self.method = IntegratedGradients(lambda moved: model(moved + 1))

    def attribute(self, inputs, target=None):
        return self.method.attribute(inputs - 1, target)
