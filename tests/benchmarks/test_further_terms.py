"""The terms that were tried beside the recommended one, by cases whose answer is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sibx.models import TinyCNN
from sibx.objectives import Given, Shuffled, SIBConfig, SIBLoss

LAYERS = {"stage:-2": 1.0, "stage:-1": 2.0}
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture
def terms(script):
    return script("further_terms")


@pytest.fixture
def batch():
    torch.manual_seed(0)
    masks = torch.zeros(6, 1, 32, 32, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[0, 4 + i : 20 + i, 8 - i : 24] = True
    return torch.rand(6, 3, 32, 32), LABELS, masks


def fitted(model, images, labels):
    """A network that classifies better than one that knows nothing, without which no term pulls."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


class Pointwise(nn.Module):
    """What a position holds does not depend on its neighbours."""

    def __init__(self, classes):
        super().__init__()
        self.one, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, classes)

    def forward(self, images):
        return self.fc(self.one(images).relu().mean((2, 3)))


@pytest.mark.parametrize("masks", [Given(), Shuffled(Given())])
def test_the_frame_is_that_of_the_recommended_loss(terms, batch, masks):
    """With the recommended term the loss is ``SIBLoss``, and so is its gradient."""
    torch.manual_seed(0)
    model = fitted(TinyCNN(3), *batch[:2])
    config = replace(SIBConfig.recommended("given", LAYERS), masks=masks)
    ours, theirs = terms.Bounded(terms.fraction, config)(model, *batch), SIBLoss(config)(model, *batch)
    assert ours["total"] > 1.01 * ours["cross_entropy"]
    totals = (ours["total"], theirs.total)
    for a, b in zip(*(torch.autograd.grad(t, list(model.parameters())) for t in totals), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_invariant(terms, batch):
    """Where no position knows of the others, nothing inside the object changes, and what lies outside is all."""
    torch.manual_seed(0)
    model, (images, labels, masks) = fitted(Pointwise(3), *batch[:2]), batch
    config = SIBConfig.recommended("given", {"one": 1.0})
    found = terms.Bounded(terms.invariant, config)(model, *batch)["one"]
    moved = torch.where(masks, images, images.roll(1, 0))
    silence = [terms.Bounded(terms.fraction, config)(model, x, labels, masks)["one"] for x in (images, moved)]
    assert found.isclose(sum(silence) / 2, atol=1e-5)
    # A layer that sees the neighbourhood changes with the background.
    seeing = fitted(TinyCNN(3), *batch[:2])
    config = SIBConfig.recommended("given", {"stage:-2": 1.0})
    found = terms.Bounded(terms.invariant, config)(seeing, *batch)["stage:-2"]
    silence = [terms.Bounded(terms.fraction, config)(seeing, x, labels, masks)["stage:-2"] for x in (images, moved)]
    assert found > sum(silence) / 2 + 1e-4


def test_other_class(terms, batch):
    """Of two classes, R of the one is that of the other with its sign turned, and lies where it lies."""
    images, labels, masks = batch
    config = SIBConfig.recommended("given", LAYERS)
    torch.manual_seed(0)
    two, three = TinyCNN(2).eval(), TinyCNN(3).eval()
    found = terms.Bounded(terms.other_class, config)(two, images, labels % 2, masks)
    assert all(found[name].abs() < 1e-6 for name in LAYERS)
    found = terms.Bounded(terms.other_class, config)(three, images, labels, masks)
    assert all(found[name].abs() > 1e-4 for name in LAYERS)


def test_conditional(terms, batch):
    """Given the label, images of classes of their own say nothing of each other; of one class they are plain CKA."""
    images, labels, masks = batch
    config = SIBConfig.recommended("given", {"stage:-1": 1.0})
    torch.manual_seed(0)
    model = TinyCNN(6).eval()

    def gain(labels):
        """What the second part takes off the first."""
        losses = [terms.Bounded(t, config)(model, images, labels, masks) for t in (terms.fraction, terms.conditional)]
        return float((losses[0]["stage:-1"] - losses[1]["stage:-1"]).detach())

    assert gain(torch.arange(6)) == pytest.approx(0, abs=1e-6)
    assert 0 < gain(labels) <= 1
    rows = torch.randn(6, 5)
    assert torch.allclose(terms.within_class(rows, torch.zeros(6, dtype=torch.int64)), rows - rows.mean(0), atol=1e-6)
    apart = terms.within_class(rows, labels)
    assert torch.allclose(apart[[0, 3]].sum(0), torch.zeros(5), atol=1e-6)
