"""LRP: what it hands back, by hand and as a sum, and the networks that it refuses."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from sibx import METHODS, explain
from sibx.attribution import LRP
from sibx.attribution.fitting import why_not
from sibx.models import TinyCNN, TinyViT, build_model, contrast
from tests.helpers.methods import OfModules

zennit = pytest.importorskip("zennit")
EPSILON = 1e-6


@pytest.fixture
def images():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(**options):
    torch.manual_seed(0)
    return OfModules(4, **options).double().eval()


def handed_back(shares, relevance):
    """Relevance of the inputs: every output's, split by its row of shares (outputs, inputs), biases among the total."""
    parts, totals = shares
    totals = totals + EPSILON * np.where(totals >= 0, 1, -1)
    return (parts / totals[:, None]).T @ relevance


def by_hand(first, second, head, x, target):
    """Bach 2015 with matrices: epsilon at the head, z+ at the second layer, evenly at the first; ReLU hands on."""

    def run(layer, values):
        return layer(torch.from_numpy(values)).detach().numpy()

    matrices = [layer.weight.detach().numpy() for layer in (second, head)]
    hidden = np.maximum(run(first, x), 0)
    last = np.maximum(run(second, hidden), 0)
    scores = run(head, last)
    relevance = np.where(np.arange(len(scores)) == target, scores, 0)
    parts = matrices[1] * last
    relevance = handed_back((parts, parts.sum(1) + head.bias.detach().numpy()), relevance)
    positive = np.maximum(matrices[0] * hidden, 0)
    relevance = handed_back((positive, positive.sum(1) + np.maximum(second.bias.detach().numpy(), 0)), relevance)
    even = np.ones((len(hidden), len(x)))
    return handed_back((even, even.sum(1)), relevance)


def test_is_the_definition():
    """Convolutions of one pixel are matrices, so that the twin needs no pictures."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(6, 5, 1).double(), nn.Conv2d(5, 4, 1).double()
    head = nn.Linear(4, 3).double()
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), head)
    flat = [nn.Linear(c.in_channels, c.out_channels).double() for c in (first, second)]
    for linear, convolution in zip(flat, (first, second), strict=True):
        linear.weight.data, linear.bias.data = convolution.weight.data.flatten(1), convolution.bias.data
    x = torch.randn(2, 6, 1, 1, dtype=torch.float64)
    found = LRP(model.eval()).attribute(x, target=[2, 0])
    for row, target in enumerate((2, 0)):
        expected = by_hand(*flat, head, x[row].flatten().numpy(), target)
        assert found[row].flatten().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon_plus", "epsilon_alpha2_beta1"])
def test_without_biases_the_sum_is_the_score(images, composite):
    """Of a class, and of the difference of two; what biases contribute is lost."""
    model = network(bias=False, norm=False)
    scores = model(images)
    for asked, expected in ((model, scores[:, 1]), (contrast(model, 2), scores[:, 1] - scores[:, 2])):
        relevance = LRP(asked, composite).attribute(images, target=1)
        assert torch.allclose(relevance.sum((1, 2, 3)), expected, rtol=1e-3)
    biased = network(norm=False)
    missed = LRP(biased, composite).attribute(images, target=1).sum((1, 2, 3)) - biased(images)[:, 1]
    assert (missed.abs() > 1e-3).any()


def test_batch_norm_is_a_part_of_the_layer_before_it(images):
    model, merged = network(), network(norm=False)
    for module in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(module.running_var, 0.5, 2)
        nn.init.normal_(module.running_mean, std=0.1)
    for source, target in ((0, 0), (4, 3)):
        fused = torch.nn.utils.fuse_conv_bn_eval(model.features[source], model.features[source + 1])
        merged.features[target].load_state_dict(fused.state_dict())
    merged.classifier.load_state_dict(model.classifier.state_dict())
    assert torch.allclose(LRP(model).attribute(images, 1), LRP(merged).attribute(images, 1), rtol=1e-3, atol=1e-9)


def test_nothing_is_left_in_the_model_after_an_error(images):
    """In the middle of the way back, with BatchNorm in the weights and rules at the modules."""
    model = network(bias=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters, broken = list(model.parameters()), LRP(model)

    def fail(*_):
        raise RuntimeError("on the way back")

    def plant(_, __, output):
        if output.requires_grad:
            output.register_hook(fail)

    handle = model.features[0].register_forward_hook(plant)
    with pytest.raises(RuntimeError, match="on the way back"):
        broken.attribute(images, target=1)
    handle.remove()
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert after.keys() == before.keys()
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.relu = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.linear(self.relu(x.flatten(1))))


REFUSED = {
    "a residual addition": (
        lambda: build_model("resnet18", 5),
        (3, 64, 64),
        [r"layer1.0.relu \(runs 2 times\)", r"\(16 in all\)"],
    ),
    "attention": (lambda: TinyViT(5, width=16, depth=1, heads=2), (3, 32, 32), [r"\(LayerNorm\)", r"[(, ]add[,)]"]),
    "a mean that is a function, and SiLU with its BatchNorm": (lambda: TinyCNN(5, width=4), (3, 16, 16), [r"\(mean\)"]),
    "GroupNorm": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.Flatten()),
        (4, 1, 1),
        [r"1 \(GroupNorm\)"],
    ),
    "BatchNorm first": (
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Flatten()),
        (4, 1, 1),
        [r"0 \(BatchNorm2d\)"],
    ),
    "a module twice": (Twice, (4, 1, 1), [r"relu \(runs 2 times\)"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_networks_without_rules(kind):
    build, shape, messages = REFUSED[kind]
    model = build().eval()
    for message in messages:
        with pytest.raises(
            ValueError, match=rf"`forward_func` must be made of modules that LRP has rules for.*{message}"
        ):
            LRP(model).attribute(torch.randn(2, *shape), target=1)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_sum_that_is_a_module_has_a_rule(images):
    from zennit.layer import Sum

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.sum = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU()), Sum(-1)

        def forward(self, x):
            return self.sum(torch.stack([x, self.inner(x)], -1))

    model = nn.Sequential(Residual(), nn.Flatten(), nn.Linear(192, 2, bias=False)).double().eval()
    relevance = LRP(model, "epsilon_plus").attribute(images, target=0)
    assert torch.allclose(relevance.sum((1, 2, 3)), model(images)[:, 0], rtol=1e-3)


def test_arguments_and_the_extra(monkeypatch, images):
    model = network()
    with pytest.raises(ValueError, match="`composite` must be one of epsilon_plus_flat, epsilon_plus, "):
        LRP(model, "gamma")
    with pytest.raises(ValueError, match=r"`forward_func` must be a torch.nn.Module"):
        LRP(lambda x: x)
    own = zennit.composites.EpsilonPlusFlat(canonizers=[zennit.canonizers.SequentialMergeBatchNorm()])
    assert torch.equal(LRP(model, own).attribute(images, 1), LRP(model).attribute(images, 1))
    assert explain(model, images, "lrp").shape == (3, 1, 8, 8)
    monkeypatch.setitem(sys.modules, "zennit.canonizers", None)
    with pytest.raises(ImportError, match=r"lrp needs zennit: pip install 'sibx\[lrp\]'"):
        LRP(model).attribute(images, 1)
    reasons = why_not([METHODS["lrp"]], model, images[:1])
    assert reasons == {"lrp": "lrp needs zennit: pip install 'sibx[lrp]'"}
