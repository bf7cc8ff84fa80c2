"""Networks as people have them: partly frozen, with auxiliary heads, with activation checkpointing."""

import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from sibx import SIBConfig, TrainConfig, fine_tune
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN, head_parameters

GIVEN = SIBConfig.recommended("given")


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=16))


def tune(model, data, **fields):
    config = TrainConfig(**{"epochs": 1, "batch_size": 8, "learning_rate": 1e-2, "weight_decay": 0.1, **fields})
    return fine_tune(model, data, config=config, progress=False)


def changed(result, model):
    after, before = result.model.state_dict(), model.state_dict()
    return {name for name in before if not torch.equal(after[name], before[name])}


@pytest.mark.parametrize("objective", [None, GIVEN])
def test_only_named_layers_learn(objective, data):
    model = TinyCNN(8, width=8)
    result = tune(model, data, objective=objective, train_layers=["features.10", "class*"], batch_norm="train")
    assert changed(result, model) == {"features.10.weight", "classifier.weight", "classifier.bias"}
    assert all(p.requires_grad for p in result.model.parameters())


def test_frozen_normalization_keeps_its_statistics_and_others_do_not(data):
    model = TinyCNN(8, width=8)
    found = changed(tune(model, data, train_layers=["features.11"], batch_norm="train"), model)
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert found == {f"features.11.{name}" for name in names}


def test_a_model_that_comes_partly_frozen(data):
    model = TinyCNN(8, width=8)
    model.features.requires_grad_(False)
    result = tune(model, data, objective=GIVEN, batch_norm="train", head_learning_rate=0.1)
    assert changed(result, model) == {"classifier.weight", "classifier.bias"}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"`model` must have weights that learn .* but got 'TinyCNN with all frozen'"):
        tune(model, data)
    assert "features.0.weight" in changed(tune(model, data, train_layers=["features"]), model)


@pytest.mark.parametrize("head", [nn.Conv2d(32, 8, 1), nn.Linear(32, 8)], ids=["convolution", "linear"])
def test_a_head_of_either_kind_has_its_own_rate(head, data):
    body = TinyCNN(8, width=8).features
    ways = {
        nn.Conv2d: [head, nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        nn.Linear: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), head],
    }
    model = nn.Sequential(body, *ways[type(head)])
    assert {id(p) for p in head_parameters(model)} == {id(p) for p in head.parameters()}
    result = tune(model, data, learning_rate=0.0, head_learning_rate=0.1)
    assert {n.split(".")[0] for n in changed(result, model)} == {"1" if type(head) is nn.Conv2d else "3"}


class Heads(nn.Module):
    """Two auxiliary heads as GoogLeNet has them, in train mode."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = TinyCNN(8, width=8), nn.Linear(3, 8), nn.Linear(3, 8)

    def forward(self, images):
        logits, means = self.body(images), images.mean((2, 3))
        if not self.training:
            return logits
        return torchvision.models.GoogLeNetOutputs(logits, self.two(means), self.one(means))


@pytest.mark.parametrize("objective", [None, GIVEN], ids=["ce", "sib"])
def test_auxiliary_heads_learn_with_their_weight(objective, data):
    torch.manual_seed(0)
    model = Heads()
    settings = {"objective": objective, "batch_size": 16, "augmentation": "none", "learning_rate": 0.0}
    lines = [tune(model, data, auxiliary_weight=w, **settings).history[0] for w in (0, None, 1)]
    means, labels = torch.stack([s.image for s in data.samples]).mean((2, 3)), data.labels
    both = sum(F.cross_entropy(head(means), labels).item() for head in (model.one, model.two))
    assert [line["auxiliary"] for line in lines] == pytest.approx([0, 0.3 * both, both], rel=1e-4)
    totals = [line["total"] - line["auxiliary"] for line in lines]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-4)
    assert {"one.weight", "two.weight", "body.classifier.weight"} <= changed(
        tune(model, data, objective=objective, ema=0.5), model
    )


class OneHead(Heads):
    """One auxiliary head as Inception v3 has it."""

    def forward(self, images):
        found = super().forward(images)
        return torchvision.models.InceptionOutputs(found.logits, found.aux_logits1) if self.training else found


def test_one_head_weighs_more(data):
    torch.manual_seed(0)
    model, settings = OneHead(), {"batch_size": 16, "augmentation": "none", "learning_rate": 0.0}
    one = F.cross_entropy(model.one(torch.stack([s.image for s in data.samples]).mean((2, 3))), data.labels)
    assert tune(model, data, **settings).history[0]["auxiliary"] == pytest.approx(0.4 * one.item(), rel=1e-4)


@pytest.mark.slow
def test_googlenet():
    small = InMemoryDataset.load(SyntheticDataset("train", 64, size=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of how weights are initialized
        model = torchvision.models.googlenet(num_classes=8, aux_logits=True, init_weights=False)
    found = changed(tune(model, small, batch_size=2, learning_rate=1e-4), model)
    assert {"aux1.fc2.weight", "aux2.fc2.weight", "fc.weight"} <= found


class Saving(TinyCNN):
    def forward(self, images):
        return self.classifier(checkpoint(self.features, images, use_reentrant=False).mean((2, 3)))


def test_activation_checkpointing_trains_as_without(data):
    results = []
    for kind in (TinyCNN, Saving):
        torch.manual_seed(0)
        results.append(tune(kind(8, width=8), data, objective=GIVEN))
    for name, tensor in results[0].model.state_dict().items():
        assert torch.allclose(results[1].model.state_dict()[name], tensor, atol=1e-6), name


def test_patterns_that_name_nothing(data):
    message = r"`train_layers` must name layers or weights of the model, but got 'clasifier.\*' \(near: 'classifier'"
    with pytest.raises(ValueError, match=message):
        tune(TinyCNN(8, width=8), data, train_layers=["features.0", "clasifier.*"])
    for bad in ("fc", [], [3]):
        with pytest.raises(ValueError, match="`train_layers` must be None or a sequence of patterns, at least one"):
            TrainConfig(train_layers=bad)
