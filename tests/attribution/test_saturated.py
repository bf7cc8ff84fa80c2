"""Images that a network is sure of: R is what the network computes, not what float32 rounds."""

import copy

import pytest
import torch

from sibx import SIBConfig, SIBLoss, explain
from sibx.attribution import vjp
from sibx.models import TinyCNN


@pytest.fixture(scope="module")
def sure():
    """A network whose probabilities are 1 within float32, and whose scores have much in common."""
    torch.manual_seed(0)
    model, images = TinyCNN(6, width=8).eval(), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        scores = model(images)
        gap = scores.topk(2, 1).values.diff(dim=1).abs().min()
        model.classifier.weight *= 20 / gap
        model.classifier.bias *= 20 / gap
        model.classifier.weight += 300 * torch.rand(1, model.classifier.in_features)
    z = model(images)
    assert (z.softmax(1).amax(1) == 1).all()  # in float32
    assert (z.double().softmax(1).amax(1) < 1).any()
    return model, images, z.argmax(1)


def alike(one, other):
    """Cosine of two maps of every image."""
    one, other = (m.double().flatten(1) for m in (one, other))
    return (one * other).sum(1) / one.norm(dim=1) / other.norm(dim=1)


@pytest.mark.parametrize("cotangent", ["probability", "log_probability"])
def test_as_in_float64(sure, cotangent):
    model, images, labels = sure
    found = vjp(model, images, cotangent=cotangent, target=labels)
    exact = vjp(copy.deepcopy(model).double(), images.double(), cotangent=cotangent, target=labels)
    assert (exact.map.flatten(1).abs().amax(1) > 0).all()
    assert found.map.dtype == torch.float32
    assert (alike(found.map, exact.map) > 0.999).all()
    sizes = found.map.flatten(1).norm(dim=1) / exact.map.flatten(1).norm(dim=1)
    assert torch.allclose(sizes.double(), torch.ones(4, dtype=torch.float64), rtol=0.01)


def test_methods_and_the_loss_see_it(sure):
    model, images, labels = sure
    doubled = copy.deepcopy(model).double()
    for method in ("sib", "vjp"):
        found, exact = explain(model, images, method), explain(doubled, images.double(), method)
        assert (alike(found, exact) > 0.99).all()
    masks = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    masks[..., 8:24, 8:24] = True
    config = SIBConfig.recommended("given")
    one, other = SIBLoss(config)(model, images, labels, masks), SIBLoss(config)(doubled, images.double(), labels, masks)
    assert one.saturated == 0
    assert one.background.item() == pytest.approx(other.background.item(), rel=1e-3)
