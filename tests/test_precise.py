"""Computing without float64: what a device lacks is computed in float32 there, with the same results."""

from dataclasses import replace

import pytest
import torch

from sibx import _precise
from sibx._precise import precise
from sibx.attribution import build_method, soft_quantile
from sibx.metrics import METRICS
from sibx.metrics.frames import relevance_order
from sibx.models import hits, receptive_field


@pytest.fixture
def without_float64(monkeypatch):
    """Treat the CPU as a device that has no float64."""
    monkeypatch.setattr(_precise, "WITHOUT_FLOAT64", frozenset({"cpu"}))


def test_precise(without_float64):
    assert precise(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert precise(torch.zeros(2, dtype=torch.float16, device="meta")).dtype == torch.float64


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name, explained, monkeypatch):
    # Values that tie with a threshold may fall on either side of it.
    maps = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    expected = METRICS[name].score(replace(explained, heatmaps=maps))
    monkeypatch.setattr(_precise, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    found = METRICS[name].score(replace(explained, heatmaps=maps))
    assert torch.allclose(found.double(), expected.double(), atol=1e-4, rtol=1e-3, equal_nan=True)


@pytest.mark.parametrize("name", ["gradcam", "sib", "layercam"])
def test_maps(name, model, images, without_float64):
    found = build_method(name, model, "features.8").attribute(images, target=1)
    assert found.dtype == torch.float32
    assert found.abs().max() > 0


def test_parts(model, images, monkeypatch):
    def results():
        field = receptive_field(model, model.features[8], images[..., : next(sides)])
        order = relevance_order(torch.tensor([[-2.0, 0.0, -0.0, 3.0, -1.0, 2.5]]).view(1, 1, 2, 3))
        return field.stride, order.tolist(), hits(torch.eye(3), torch.tensor([0, 1, 1])).tolist()

    sides = iter((32, 30))  # what was measured at one size is kept
    quantiles = [soft_quantile(images.flatten(1), 0.8)]
    expected = results()
    monkeypatch.setattr(_precise, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    assert results() == expected
    quantiles.append(soft_quantile(images.flatten(1), 0.8))
    assert torch.allclose(*quantiles, atol=1e-5)
