"""A head that is centered while it trains: the same probabilities, scores that sum to 0 at every moment."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.models.centering import center
from sibx.objectives import GuidanceConfig, SIBConfig
from sibx.train import Callback, TrainConfig, fine_tune, fine_tune_as
from tests.helpers.objectives import every_term


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=24))


def network(classes=8, cls=TinyCNN):
    torch.manual_seed(0)
    return cls(classes, width=8)


class ByConvolution(TinyCNN):
    """A 1 x 1 convolution makes the scores."""

    def __init__(self, classes, width):
        super().__init__(classes, width=width)
        wide = self.classifier.in_features
        self.classifier = nn.Sequential(nn.Unflatten(1, (wide, 1, 1)), nn.Conv2d(wide, classes, 1), nn.Flatten())


class Remembering(TinyCNN):
    """Keeps its last features, and with them autograd's graph."""

    def forward(self, images):
        self.last = self.features(images)
        return self.classifier(self.last.mean((2, 3)))


class Adapted(nn.Linear):
    """A low-rank change beside the weights, 0 at first."""

    def __init__(self, inside, outside):
        super().__init__(inside, outside)
        self.down, self.up = nn.Parameter(torch.randn(2, inside)), nn.Parameter(torch.zeros(outside, 2))

    def forward(self, features):
        return super().forward(features) + features @ self.down.T @ self.up.T


class ByAdapter(TinyCNN):
    """Its head has more than a weight and a bias."""

    def __init__(self, classes, width):
        super().__init__(classes, width=width)
        self.classifier = Adapted(self.classifier.in_features, classes)


class TwoOfOne(TinyCNN):
    """Two scores, 0 and what the head says: it has a single output."""

    def __init__(self, classes, width):
        super().__init__(1, width=width)

    def forward(self, images):
        score = super().forward(images)
        return torch.cat([torch.zeros_like(score), score], 1)


class Squashed(TinyCNN):
    """Scores between -3 and 3 of a head that is centered: not its outputs."""

    def __init__(self, classes, width):
        super().__init__(classes, width=width)
        center(self.classifier)

    def forward(self, images):
        return 3 * super().forward(images).tanh()


def tune(data, net=None, callbacks=(), **fields):
    config = TrainConfig(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-2} | fields)
    return fine_tune(net or network(), data, config=config, progress=False, callbacks=callbacks)


def images_of(data):
    return torch.stack([sample.image for sample in data.samples])


@pytest.mark.parametrize("objective", [None, SIBConfig.recommended("given"), every_term(), GuidanceConfig("rrr", 1.0)])
@pytest.mark.parametrize("fields", [{"optimizer": "sgd"}, {}, {"ema": 0.5}, {"clip_norm": 0.1}, {"accumulate": 2}])
def test_only_the_mean_of_the_scores_is_another(data, objective, fields):
    plain, centered = (tune(data, objective=objective, center_head=on, **fields).model for on in (False, True))
    scores, moved = plain(images_of(data)), centered(images_of(data))
    assert scores.mean(1).abs().max() > 1e-2  # or this test shows nothing
    assert moved.mean(1).abs().max() < 1e-5
    assert torch.allclose(moved, scores - scores.mean(1, keepdim=True), atol=2e-3)


def test_from_the_first_step_on(data):
    seen = []

    class Look(Callback):
        def on_start(self, model, epoch):
            seen.append(model)

        def on_epoch(self, epoch):
            seen.append(epoch.model)

    start = network()
    result = tune(data, start, [Look()], schedule="constant", center_head=True)
    sums = [model(images_of(data)).sum(1).abs().max().item() for model in (*seen, result.model, start)]
    assert len(sums) == 5
    assert max(sums[:4]) < 1e-4
    assert sums[4] > 1e-2  # the model that was passed in stays as it is


def test_a_frozen_head_is_centered_too(data):
    model = tune(data, center_head=True, train_layers=["features.*"]).model
    assert model(images_of(data)).sum(1).abs().max() < 1e-4


def test_resumed_to_the_same_bits(data, tmp_path):
    class Stop(Callback):
        def on_epoch(self, epoch):
            if epoch.number == 2:
                raise KeyboardInterrupt

    config = TrainConfig(epochs=3, batch_size=8, learning_rate=1e-2, center_head=True)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(network(), data, config=config, out_dir=tmp_path, progress=False, callbacks=[Stop()])
    assert len(list(tmp_path.glob("checkpoint-*.pt"))) == 1
    resumed = fine_tune(network(), data, config=config, out_dir=tmp_path, resume=True, progress=False).model
    whole = fine_tune(network(), data, config=config, progress=False).model
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_a_head_that_is_fitted_afterwards(data):
    """Last-layer refit on groups: what its logistic regression leaves is centered, too."""
    grouped = InMemoryDataset(data, [s._replace(group=i % 2) for i, s in enumerate(data.samples)])
    for on in (False, True):
        config = TrainConfig(epochs=1, batch_size=8, center_head=on)
        model = fine_tune_as("dfr", network(), grouped, config=config, val_data=grouped, progress=False).model
        assert (model(images_of(data)).sum(1).abs().max() < 1e-3) == on


def test_a_model_that_keeps_its_activations(data):
    """It cannot be copied after a pass with gradients."""
    model = tune(data, network(cls=Remembering), center_head=True).model
    assert model(images_of(data)).sum(1).abs().max() < 1e-4


def by_labels(logits, labels):
    return F.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    "fields",
    [
        {"output": "sigmoid"},
        {"output": "raw", "criterion": by_labels},
        {"criterion": by_labels},
        {"objective": replace(every_term(), cotangent="ones")},
        {"objective": lambda model, images, labels, masks: by_labels(model(images), labels)},
    ],
)
def test_no_effect_where_the_mean_may_mean_something(data, fields):
    several = data if fields.get("output") != "sigmoid" else with_several_labels(data)
    plain, asked = (tune(several, center_head=on, **fields).model.state_dict() for on in (False, True))
    assert all(torch.equal(value, asked[name]) for name, value in plain.items())


def with_several_labels(data):
    """The same images, each with its class as one label of eight."""
    samples = [s._replace(label=F.one_hot(torch.tensor(s.label), 8).float()) for s in data.samples]
    return InMemoryDataset(data, samples)


def test_a_single_score_has_no_mean(data):
    two = InMemoryDataset(data, [s._replace(label=s.label % 2) for s in data.samples])
    plain, asked = (tune(two, network(1), center_head=on).model.state_dict() for on in (False, True))
    assert all(torch.equal(value, asked[name]) for name, value in plain.items())


@pytest.mark.parametrize(
    ("cls", "rule"),
    [
        (ByConvolution, "have one linear layer"),
        (ByAdapter, "have a head of a weight and a bias"),
        (Squashed, "have the outputs of its last linear layer"),
        (TwoOfOne, "have the outputs of its last linear layer"),
    ],
)
def test_a_model_without_such_a_head_stays_as_it_is(data, cls, rule):
    some = InMemoryDataset(data, [s._replace(label=s.label % 2) for s in data.samples])
    with pytest.warns(UserWarning, match=f"`center_head` leaves this model as it is: `model` must {rule}"):
        asked = tune(some, network(cls=cls), center_head=True).model.state_dict()
    plain = tune(some, network(cls=cls)).model.state_dict()
    assert all(torch.equal(value, asked[name]) for name, value in plain.items())
