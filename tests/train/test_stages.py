"""Trainings of several stages: just train twice, deep feature reweighting, and what they leave on disk."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sibx.datasets import InMemoryDataset, Part, SyntheticDataset
from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GuidanceConfig
from sibx.train import TRAININGS, TrainConfig, TrainingSpec, accuracy, fine_tune, fine_tune_as, logistic, predict
from sibx.train.dfr import RefitHead, read_features
from sibx.train.jtt import UpsampleErrors
from sibx.train.logistic import l1_logistic
from tests.references import logistic as reference

CONFIG = TrainConfig(epochs=2, batch_size=8, augmentation="none", learning_rate=0.01)


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=64))


@pytest.fixture(scope="module")
def val():
    return InMemoryDataset.load(SyntheticDataset("val", 32, size=96, rho=0.5))


def network():
    torch.manual_seed(0)
    return TinyCNN(8, width=4)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class TestLogistic:
    @pytest.mark.parametrize("strength", [0.002, 0.02, 0.1, 10.0])
    def test_equals_another_algorithm(self, strength):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(40) % 3
        features = torch.randn(40, 6, generator=generator, dtype=torch.float64)
        features[:, 0] += 2 * labels
        features[:, 1] -= (labels == 1).double()
        weight, bias = l1_logistic(features, labels, 3, strength)
        expected, offset = reference.fit(features, labels, 3, strength)
        ours, theirs = (
            float(reference.objective(*line, features, labels, strength))
            for line in ((weight, bias), (expected, offset))
        )
        assert ours == pytest.approx(theirs, abs=1e-6)
        assert torch.allclose(weight, expected, atol=1e-2)
        assert (weight == 0).any()
        assert (weight == 0).all() == (strength == 10)

    def test_bias_alone_gives_the_shares(self):
        labels = torch.tensor([0, 0, 0, 1])
        line = l1_logistic(torch.zeros(4, 2), labels, 2, 0.1)
        assert torch.allclose(line.bias.softmax(0), torch.tensor([0.75, 0.25]).double(), atol=1e-4)

    def test_stopping_before_the_minimum_is_said(self, monkeypatch):
        monkeypatch.setattr(logistic, "MOST_STEPS", 3)
        with pytest.warns(UserWarning, match="stopped after 3 steps"):
            l1_logistic(torch.eye(4), torch.arange(4) % 2, 2, 0.01)


class TestJustTrainTwice:
    def test_errors_of_the_first_training_are_repeated(self, data):
        asked = []

        def learn(epochs):
            asked.append(epochs)
            return network()

        repeated = UpsampleErrors(epochs=3, factor=5)(data, learn)
        predicted, labels = predict(network(), data)
        ids = [sample.id for sample in repeated]
        assert asked == [3]
        for sample, wrong in zip(data, (predicted != labels).tolist(), strict=True):
            assert ids.count(sample.id) == (5 if wrong else 1)
        assert 0 < (predicted != labels).sum() < len(data)
        assert (repeated.name, repeated.split, repeated.classes) == (data.name, data.split, data.classes)
        assert repeated.normalization == data.normalization

    def test_both_trainings_start_from_the_same_weights(self, data, val):
        spec = replace(TRAININGS["jtt"], prepare=UpsampleErrors(epochs=1, factor=3))
        config = replace(CONFIG, keep="best")
        result = fine_tune_as(spec, network(), data, config=config, val_data=val, progress=False)
        first = fine_tune(network(), data, config=replace(CONFIG, epochs=1), progress=False)
        predicted, labels = predict(first.model, data)
        times = torch.where(predicted == labels, 1, 3)
        by_hand = fine_tune(
            network(),
            Part(data, torch.arange(len(times)).repeat_interleave(times).tolist()),
            config=config,
            val_data=val,
            progress=False,
        )
        assert same(result.model, by_hand.model)
        assert result.seconds > 0
        assert not same(result.model, fine_tune(network(), data, config=config, val_data=val, progress=False).model)

    def test_resumed_to_the_same_bits(self, data, tmp_path):
        options = {"config": replace(CONFIG, checkpoint_every=3), "out_dir": tmp_path, "progress": False}
        whole = fine_tune_as("jtt", network(), data, **options)
        (tmp_path / "model.pt").unlink()
        sorted(tmp_path.glob("checkpoint-*.pt"))[-1].unlink()
        again = fine_tune_as("jtt", network(), data, resume=True, **options)
        assert same(whole.model, again.model)
        assert (tmp_path / "first-stage" / "log.csv").is_file()
        with pytest.raises(ValueError, match="`out_dir` must hold no checkpoints of an earlier run"):
            fine_tune_as("jtt", network(), data, **options)

    @pytest.mark.parametrize("field", ["epochs", "factor"])
    def test_errors(self, field):
        with pytest.raises(ValueError, match=f"`{field}` must be at least 1, but got 0"):
            UpsampleErrors(**{field: 0})


class TestRefit:
    def test_what_the_head_gets(self, data):
        model = network().eval()
        rows = read_features(model, model.classifier, data)
        images = torch.stack([sample.image for sample in data])
        logits = rows.float() @ model.classifier.weight.T + model.classifier.bias
        assert torch.allclose(logits, model(images), atol=1e-5)
        assert not model.classifier._forward_pre_hooks

    def test_the_spurious_feature_is_dropped(self):
        """Feature 0 agrees with the label in 9 of 10 images, feature 1 always, but is smaller."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(400) % 2
        agrees = torch.rand(400, generator=generator) < 0.9
        spurious = torch.where(agrees, labels, 1 - labels)
        noise = torch.randn(400, 3, generator=generator, dtype=torch.float64)
        features = torch.stack([5.0 * spurious + noise[:, 0], 0.3 * labels + 0.05 * noise[:, 1], noise[:, 2]], 1)
        groups = 2 * labels + spurious
        line = RefitHead().fit(features, labels, groups, 2)
        deviation = features.std(0)
        pull = (line.weight[1] - line.weight[0]) * deviation
        assert pull[1] > 10 * pull[0].abs()
        right = ((features @ line.weight.T + line.bias).argmax(1) == labels).double()
        assert min(right[groups == g].mean() for g in range(4)) > 0.95

    def test_one_draw_is_the_regression_on_balanced_and_standardized_features(self):
        generator = torch.Generator().manual_seed(1)
        groups = torch.arange(24) % 4  # all equally large: there is but one balanced subset
        labels = groups // 2
        features = 3 + 2 * torch.randn(24, 5, generator=generator, dtype=torch.float64)
        features[:, 0] += labels
        features[:, 4] = 7.0
        line = RefitHead(strengths=(0.5,), draws=2).fit(features, labels, groups, 2)
        scaled = (features - features.mean(0)) / features.std(0, correction=0).where(torch.arange(5) < 4, 1)
        weight, bias = reference.fit(scaled, labels, 2, 1 / (0.5 * 24))
        expected = scaled @ weight.T + bias
        assert torch.allclose(features @ line.weight.T + line.bias, expected, atol=1e-3)
        assert (line.weight[:, 4] == 0).all()

    def test_strength_is_chosen_by_the_worst_group(self):
        """With the strongest penalty all weights are 0; the choice must not fall on it, wherever it stands."""
        generator = torch.Generator().manual_seed(2)
        groups = torch.arange(80) % 4
        labels = groups // 2
        features = torch.randn(80, 3, generator=generator, dtype=torch.float64)
        features[:, 0] += 4 * labels
        for strengths in ((1e-6, 1.0), (1.0, 1e-6)):
            line = RefitHead(strengths=strengths, draws=1).fit(features, labels, groups, 2)
            assert line.weight.abs().sum() > 0.1

    def test_only_the_last_layer_changes(self, data, val, tmp_path):
        result = fine_tune_as("dfr", network(), data, config=CONFIG, val_data=val, out_dir=tmp_path, progress=False)
        plain = fine_tune(network(), data, config=CONFIG, val_data=val, progress=False)
        assert result.history == plain.history
        differ = [k for k, v in plain.model.state_dict().items() if not torch.equal(v, result.model.state_dict()[k])]
        assert differ == ["classifier.weight", "classifier.bias"]
        assert accuracy(result.model, val) > accuracy(plain.model, val)
        loaded = TinyCNN(8, width=4)
        load_checkpoint(tmp_path / "model.pt", loaded)
        assert same(loaded, result.model)

    def test_head_without_a_bias(self, val):
        model = network()
        model.classifier = nn.Linear(model.classifier.in_features, 8, bias=False)
        refitted = RefitHead(draws=1)(model, val)
        assert refitted.classifier.bias.shape == (8,)
        assert model.classifier.bias is None

    def test_errors(self, data, val):
        with pytest.raises(ValueError, match="`val_data` must be given for training='dfr', but got None"):
            fine_tune_as("dfr", network(), data, config=CONFIG)
        nameless = InMemoryDataset(val, (s._replace(group=-1) for s in val))
        with pytest.raises(ValueError, match="`val_data` must say the group of every image, but got '96 images of syn"):
            RefitHead()(network(), nameless)
        single = InMemoryDataset(val, (s._replace(group=9 if i == 0 else 0) for i, s in enumerate(val)))
        with pytest.raises(ValueError, match=r"`val_data` must hold at least two images of every group .*, but got 1"):
            RefitHead()(network(), single)
        few = InMemoryDataset(val, (s._replace(group=0) for s in val if s.label < 7))
        with pytest.raises(
            ValueError, match=r"`val_data` must hold an image of each of the model's 8 classes, but got"
        ):
            RefitHead()(network(), few)
        headless = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(ValueError, match=r"`model` must have one linear layer at its end, but got .'0: Conv2d'"):
            RefitHead()(headless, val)
        everywhere = nn.Sequential(nn.Flatten(2), nn.Linear(32 * 32, 8), nn.Flatten())
        with pytest.raises(
            ValueError, match=r"`model` must give its last linear layer features \(B, D\), but got \[\(64, 3"
        ):
            RefitHead()(everywhere, val)
        for fields, message in (
            ({"strengths": ()}, r"`strengths` must hold at least one number, all positive, but got \(\)"),
            ({"strengths": (1.0, 0.0)}, "`strengths` must hold at least one number, all positive"),
            ({"draws": 0}, "`draws` must be at least 1, but got 0"),
        ):
            with pytest.raises(ValueError, match=message):
                RefitHead(**fields)


def test_a_training_without_stages_is_fine_tune(data):
    objective = GuidanceConfig("energy-cam", weight=0.5)
    spec = TrainingSpec("mine", "mine", objective)
    ours = fine_tune_as(spec, network(), data, config=CONFIG, progress=False)
    assert same(
        ours.model, fine_tune(network(), data, config=replace(CONFIG, objective=objective), progress=False).model
    )
    with pytest.raises(ValueError, match=r"`training` must be one of ce, .* but got 'jt'"):
        fine_tune_as("jt", network(), data)


def test_masks_of_controls(data):
    """A control is what its name says, or refused."""
    config = replace(CONFIG, epochs=1)
    ours = fine_tune_as("sib-online-shuffled", network(), data, config=config, progress=False)
    objective = TRAININGS["sib-online-shuffled"].at().objective
    assert objective.masks == TRAININGS["sib-online-shuffled"].masks
    assert same(
        ours.model, fine_tune(network(), data, config=replace(config, objective=objective), progress=False).model
    )
    for training in ("rrr-shuffled", TRAININGS["sib-shuffled"]):  # the second one without its masks filled in
        with pytest.raises(ValueError, match=r"`training` must be no control whose objective leaves masks as they are"):
            fine_tune_as(training, network(), data, config=config)
