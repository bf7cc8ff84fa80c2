"""Share: S-IB pulls a share as hard as the cross-entropy, never against it, and waits until labels are fitted."""

import math
from dataclasses import replace

import pytest
import torch

from sibx.models import TinyCNN
from sibx.objectives import Fraction, Share, SIBLoss, Variance
from sibx.objectives.share import CROSS_ENTROPY
from tests.helpers.objectives import every_term

CONFIG = replace(every_term(layers={"input": 2.0, "features": 0.5}), swap=0.7, balance=Share(0.3))


@pytest.fixture
def fitted(batch):
    """A network that fits the batch's labels to a part."""
    torch.manual_seed(0)
    net = TinyCNN(5, width=8).double()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()
    return net.eval()


def gradient(value, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()), retain_graph=True)])


@pytest.mark.parametrize("turned", [1, -1])
def test_equals_the_formula(batch, fitted, turned):
    """Against the formula in plain steps; turned around, the S-IB terms conflict with the labels where they did not."""

    def plain(**changes):
        return SIBLoss(replace(CONFIG, balance=None, **changes))(fitted, *batch)

    cross_entropy = torch.nn.functional.cross_entropy(fitted(batch[0]), batch[1])
    g, h = gradient(cross_entropy, fitted), gradient(plain().total, fitted)
    h = turned * (h - g)
    fit = 1 - cross_entropy.item() / math.log(5)
    assert 0.1 < fit < 1
    cosine = float(g @ h / (g.norm() * h.norm()))
    expected = (1 + 0.3 * fit * max(0, -cosine)) * g + 0.3 * fit * g.norm() / h.norm() * h

    weights = dict.fromkeys(("cross_entropy", "a"), 1.0)
    if turned == 1:
        total = gradient(SIBLoss(CONFIG)(fitted, *batch).total, fitted)
        assert torch.allclose(total, expected)
    values = {"cross_entropy": cross_entropy, "a": turned * (plain().total - cross_entropy)}
    factors = Share(0.3).factors(values, weights, list(fitted.parameters()), fit=torch.tensor(fit).double(), learn=True)
    assert torch.allclose(factors["cross_entropy"] * g + factors["a"] * h, expected)
    # Never against the cross-entropy: along the total it falls at least as fast as along itself.
    assert expected @ g >= g @ g * (1 - 1e-12)


@pytest.mark.parametrize("factor", [0.01, 1000.0])
@pytest.mark.parametrize("term", [Fraction(1.0), Variance(1e6)], ids=["fraction", "variance"])
def test_scales_of_terms_do_not_matter(batch, fitted, factor, term):
    config = replace(CONFIG, layers={"features": 1.0}, foreground=None, swap=0.0)
    first, second = (
        gradient(SIBLoss(replace(config, background=replace(term, weight=weight)))(fitted, *batch).total, fitted)
        for weight in (term.weight, factor * term.weight)
    )
    assert torch.allclose(first, second, rtol=1e-6)


def test_waits_for_labels_that_are_not_fitted(batch):
    net = TinyCNN(5, width=8).double()
    torch.nn.init.zeros_(net.classifier.weight)
    torch.nn.init.zeros_(net.classifier.bias)
    terms = SIBLoss(replace(CONFIG, layers={"features": 1.0}))(net, *batch)
    assert terms.total.item() == pytest.approx(terms.cross_entropy.item())


def test_without_any_term_and_without_any_gradient(batch, fitted):
    images, labels, masks = batch
    alone = SIBLoss(CONFIG)(fitted, images, labels, masks & False)
    assert torch.equal(alone.total, alone.cross_entropy)
    fitted.requires_grad_(False)
    terms = SIBLoss(CONFIG)(fitted, *batch)
    assert torch.isfinite(terms.total)


def test_nothing_is_remembered_and_evaluation_gives_the_same(batch, fitted):
    loss = SIBLoss(CONFIG)
    assert not loss.state_dict()
    first = loss(fitted, *batch).total
    assert torch.equal(loss(fitted, *batch).total, first)
    with torch.no_grad():
        assert torch.equal(loss.eval()(fitted, *batch).total, first)


def test_norms_are_shares(batch, fitted):
    """With one term, its gradient is share * fit as long as the cross-entropy's without its bracket."""
    config = replace(CONFIG, layers={"features": 1.0}, foreground=None, swap=0.0)
    norms = SIBLoss(config).gradient_norms(fitted, *batch)
    cross_entropy = torch.nn.functional.cross_entropy(fitted(batch[0]), batch[1])
    length = gradient(cross_entropy, fitted).norm()
    fit = 1 - cross_entropy.item() / math.log(5)
    assert norms["background"] == pytest.approx(float(0.3 * fit * length), rel=1e-6)
    assert norms[CROSS_ENTROPY] >= float(length) * (1 - 1e-9)


def test_a_negative_share_is_refused():
    with pytest.raises(ValueError, match=r"`share` must be at least 0, but got -0\.1"):
        Share(-0.1)
