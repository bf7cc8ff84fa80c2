"""The head is what makes the scores when the model runs, wherever and whatever it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model

from sibx import TrainConfig, build_model, explain, fine_tune
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import Scored, TinyCNN, about, center_head, head_parameters
from sibx.models.heads import head_module


class Net(nn.Module):
    """A stem and features of the images; a subclass makes scores of them."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(8, 4)  # the first in the model's order
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Linear(8, 8)

    def features(self, images):
        maps = self.norm(self.stem(images))
        return (maps * self.gate(maps.mean((2, 3))).sigmoid()[..., None, None]).mean((2, 3))


class Scaled(Net):
    def forward(self, images):
        return self.head(self.features(images)) * self.scale


class TwoHeads(Net):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, 4)

    def forward(self, images):
        features = self.features(images)
        return (self.head(features) + self.other(features)) / 2


class Cosine(Net):
    """The head is a matrix of the model's own; what it is in other models, a linear layer, does not run."""

    def __init__(self):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(4, 8))

    def forward(self, images):
        return 10 * F.linear(F.normalize(self.features(images)), F.normalize(self.prototypes))


class Convolution(Net):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        return self.last(self.norm(self.stem(images)).relu()).mean((2, 3))


NETS = {
    Scaled: ["head.weight", "head.bias"],
    TwoHeads: ["head.weight", "head.bias", "other.weight", "other.bias"],
    Cosine: ["prototypes"],
    Convolution: ["last.weight", "last.bias"],
}


def names(model, parameters):
    known = {id(p): name for name, p in model.named_parameters()}
    return [known[id(p)] for p in parameters]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_by_what_happens(net, frozen):
    model = net().requires_grad_(not frozen)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        assert names(model, head_parameters(model)) == NETS[net]
    assert model.training
    assert {p.requires_grad for p in model.parameters()} == {not frozen}
    assert all(torch.equal(v, before[k]) and v.grad is None for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("squeezenet1_0", ["classifier.1.weight", "classifier.1.bias"]),
        ("mobilenet_v3_small", ["classifier.3.weight", "classifier.3.bias"]),  # behind squeeze-and-excitation
        ("resnet18", ["fc.weight", "fc.bias"]),
        ("vit_b_32", ["heads.head.weight", "heads.head.bias"]),
    ],
)
def test_torchvision(name, head):
    model = get_model(name, weights=None, num_classes=4)
    assert names(model, head_parameters(model, torch.rand(2, 3, 224, 224))) == head


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
        ("levit_128s", ["head.linear", "head_dist.linear"]),
        ("crossvit_tiny_240", ["head.0", "head.1"]),
        ("vit_tiny_patch16_224", ["head"]),
    ],
)
def test_timm(name, heads):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=4)
    assert names(model, head_parameters(model)) == [f"{h}.{p}" for h in heads for p in ("weight", "bias")]


def test_inside_wrappers():
    model = TinyCNN(5, width=8)
    assert head_module(Scored(model, lambda scores: scores)) is model.classifier
    assert head_module(nn.DataParallel(model)) is model.classifier


@pytest.mark.parametrize(
    ("model", "got"), [(TwoHeads(), r"\['head: Linear', 'other: Linear'\]"), (Convolution(), r"\['last: Conv2d'\]")]
)
def test_one_linear_layer(model, got):
    with pytest.raises(ValueError, match=f"`model` must have one linear layer at its end, but got {got}"):
        head_module(model)


def test_no_head():
    with pytest.raises(ValueError, match="`model` must make its scores by a matrix, the head, but got 'Constant'"):
        head_parameters(Constant())


class Constant(Net):
    def forward(self, images):
        return images.mean((2, 3)) * self.scale


@pytest.mark.parametrize("net", NETS)
def test_its_learning_rate(net):
    source = SyntheticDataset("train", 32)
    data = InMemoryDataset(source, (source[i]._replace(label=i % 4) for i in range(8)))
    config = TrainConfig(epochs=1, batch_size=4, learning_rate=0.0, head_learning_rate=1e-2, weight_decay=0)
    model = net()
    tuned = dict(fine_tune(model, data, config=config, progress=False).model.named_parameters())
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, tuned[name])]
    assert changed == NETS[net]


def test_every_parameter_learns_alike_by_default():
    source = SyntheticDataset("train", 32)
    data = InMemoryDataset(source, (source[i]._replace(label=i % 4) for i in range(8)))
    runs = [TrainConfig(epochs=1, batch_size=4, head_learning_rate=rate) for rate in (None, 1e-3)]
    start = build_model("tiny_cnn", 4)
    a, b = (fine_tune(start, data, config=config, progress=False).model.state_dict() for config in runs)
    assert all(torch.equal(a[k], b[k]) for k in a)


class PerClass(nn.Module):
    """A factor for every score, 1 at first."""

    def __init__(self, scores):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(scores))

    def forward(self, scores):
        return scores * self.factor


class TestCentered:
    @pytest.mark.parametrize("bias", [True, False])
    def test_scores_lose_their_mean_and_nothing_else(self, bias):
        torch.manual_seed(0)
        model, images = build_model("tiny_cnn", 5), torch.rand(3, 3, 32, 32)
        if not bias:
            model.classifier = nn.Linear(64, 5, bias=False)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        centered = center_head(model)
        assert centered.training
        assert about(centered) == about(model)
        model.eval(), centered.eval()
        scores = model(images)
        assert scores.mean(1).abs().min() > 1e-4
        assert torch.allclose(centered(images), scores - scores.mean(1, keepdim=True), atol=1e-6)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_in_every_precision(self, dtype):
        torch.manual_seed(0)
        model, images = TinyCNN(5, width=8).eval().to(dtype), torch.rand(2, 3, 32, 32, dtype=dtype)
        scores = center_head(model, images)(images)
        assert scores.sum(1).abs().max() < 0.02 * scores.abs().max()

    def test_where_all_features_are_zero(self):
        """Noise may leave no unit of a ReLU above 0; then the bias alone makes the scores."""
        torch.manual_seed(0)
        model, images = TinyCNN(4, width=8).eval(), torch.rand(2, 3, 32, 32)
        model.features.append(nn.Hardtanh(-1.0, 0.0))
        model.features.append(nn.ReLU())
        scores = model(images)
        assert torch.allclose(scores, model.classifier.bias.expand_as(scores))
        assert torch.allclose(center_head(model)(images), scores - scores.mean(1, keepdim=True), atol=1e-6)

    def test_what_all_classes_share_leaves_the_map(self):
        """Every class gets the same from one channel: it fills the CAM of the score, and says nothing of the class."""
        torch.manual_seed(0)
        model, images = TinyCNN(4, width=8).eval(), torch.rand(2, 3, 32, 32)
        shared = TinyCNN(4, width=8).eval()
        shared.load_state_dict(model.state_dict())
        shared.classifier.weight.data[:, 0] += 5
        one, other = (explain(m, images, "hirescam", [1, 2]) for m in (model, shared))
        assert (one - other).abs().max() > 0.5 * other.max()
        one, other = (explain(center_head(m), images, "hirescam", [1, 2]) for m in (model, shared))
        assert (one - other).abs().max() < 1e-3 * other.max()

    @pytest.mark.parametrize(
        "behind", [PerClass, lambda k: nn.BatchNorm1d(k), lambda k: nn.BatchNorm1d(k, affine=False)]
    )
    def test_what_will_differ_between_classes_behind_the_head(self, behind):
        """At first it treats all alike; once it is trained, a shift of all outputs is none of all scores."""
        net = TinyCNN(4, width=8).eval()
        model = nn.Sequential(net, behind(4)).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match="`model` must have the outputs of its last linear layer as its scores"):
            center_head(model, torch.rand(1, 3, 32, 32))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_one_temperature_for_all_classes(self):
        model = nn.Sequential(TinyCNN(4, width=8), PerClass(1)).eval()
        assert center_head(model)(torch.rand(2, 3, 32, 32)).sum(1).abs().max() < 1e-5

    def test_as_many_channels_as_classes(self):
        """Their norms stand before the head, and stay as they are."""
        model = TinyCNN(8, width=8).eval()
        assert center_head(model)(torch.rand(2, 3, 32, 32)).sum(1).abs().max() < 1e-5

    def test_a_head_by_two_names(self):
        model = TinyCNN(4, width=8).eval()
        model.fc = model.classifier
        assert center_head(model)(torch.rand(2, 3, 32, 32)).sum(1).abs().max() < 1e-5

    def test_weights_that_another_layer_reads(self):
        model = TinyCNN(4, width=8)
        model.prototypes = nn.Embedding(4, model.classifier.in_features)
        model.prototypes.weight = model.classifier.weight
        with pytest.raises(ValueError, match=r"no other layer reads, but got .*'prototypes'"):
            center_head(model)

    def test_errors(self):
        for model, rule in (
            (TinyCNN(1, width=8), "have scores of several classes"),
            (Convolution(), "have one linear layer at its end"),
            (nn.Sequential(TinyCNN(4, width=8), nn.Softmax(1)), "have the outputs of its last linear layer"),
        ):
            with pytest.raises(ValueError, match=f"`model` must {rule}"):
                center_head(model, torch.rand(1, 3, 32, 32))
