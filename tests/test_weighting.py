"""Class weights, label smoothing and weights of positives: torch's own losses, counted from the data."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from sibx import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, TrainConfig, fine_tune
from sibx._outputs import weighting_of
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN, criterion_for

LABELS = torch.tensor([0] * 12 + [1] * 3 + [2])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [float("nan"), 0.0, 1.0], [0.0, 0.0, float("nan")]])


def scores(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.0), torch.tensor([1, 2, 3])])
def test_classes_are_weighed_as_torch_weighs_them(weights, smoothing):
    z = scores(16, 3)
    found = criterion_for("softmax", class_weights=weights, label_smoothing=smoothing)(z, LABELS)
    weight = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    assert torch.equal(found, F.cross_entropy(z, LABELS, weight, label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_single_score_is_weighed_as_two(smoothing):
    z, labels = scores(16, 1), LABELS.clamp(max=1)
    two = torch.cat([-z, z], 1) / 2
    for weights in (None, [1.0, 4.0]):
        options = {"class_weights": weights, "label_smoothing": smoothing}
        torch.testing.assert_close(
            criterion_for("sigmoid", **options)(z, labels), criterion_for("softmax", **options)(two, labels)
        )


def test_positives_are_weighed_as_torch_weighs_them():
    z, labels = scores(16, 1), LABELS.clamp(max=1)
    expected = F.binary_cross_entropy_with_logits(z[:, 0], labels.float(), pos_weight=torch.tensor(3.0))
    torch.testing.assert_close(criterion_for("sigmoid", pos_weight=3)(z, labels), expected)
    z, weight = scores(3, 3), torch.tensor([1.0, 2.0, 5.0])
    found = criterion_for("sigmoid", pos_weight=weight, label_smoothing=0.1)(z, SEVERAL)
    truth, known = SEVERAL.nan_to_num() * 0.9 + 0.05, ~SEVERAL.isnan()
    losses = F.binary_cross_entropy_with_logits(z, truth, pos_weight=weight, reduction="none")
    torch.testing.assert_close(found, losses[known].mean())
    found.backward()
    assert (z.grad[~known] == 0).all()


def test_balanced_weights_are_counted():
    found = weighting_of("softmax", class_weights="balanced", labels=LABELS, classes=5).class_weights
    expected = compute_class_weight("balanced", classes=LABELS.unique().numpy(), y=LABELS.numpy())
    assert found.tolist() == pytest.approx([*expected, 0, 0])
    positive = weighting_of("sigmoid", pos_weight="balanced", labels=SEVERAL).pos_weight
    assert positive.tolist() == [1, 1, 1]  # of the second label there is none, and of the third nothing else
    assert weighting_of("sigmoid", pos_weight="balanced", labels=LABELS.clamp(max=1)).pos_weight.tolist() == [3]


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=40), [*range(12), *range(16, 40, 8)])


class TestTraining:
    def first_line(self, data, **fields):
        torch.manual_seed(0)
        settings = {"epochs": 1, "batch_size": len(data), "learning_rate": 0.0, "augmentation": "none", **fields}
        model = TinyCNN(8, width=8)
        line = fine_tune(model, data, config=TrainConfig(**settings), progress=False).history[0]
        with torch.no_grad():
            return line, model.eval()(torch.stack([s.image for s in data.samples]))

    @pytest.mark.parametrize("objective", [None, SIBConfig.recommended("given"), GuidanceConfig("energy", 1.0)])
    def test_every_objective_takes_them(self, objective, data):
        line, z = self.first_line(data, objective=objective, class_weights="balanced", label_smoothing=0.1)
        weights = weighting_of("softmax", class_weights="balanced", labels=data.labels, classes=8).class_weights.float()
        expected = F.cross_entropy(z, data.labels, weights, label_smoothing=0.1)
        assert line["cross_entropy"] == pytest.approx(expected.item(), rel=1e-4)
        assert expected.item() != pytest.approx(F.cross_entropy(z, data.labels).item(), rel=1e-3)

    @pytest.mark.parametrize("loss", [SIBLoss, GuidanceLoss])
    def test_losses_take_the_same_criterion(self, loss, data):
        config = SIBConfig.recommended("given") if loss is SIBLoss else GuidanceConfig("energy", 1.0)
        line, z = self.first_line(data, objective=config, class_weights=[1.0] * 4 + [2.0] * 4)
        criterion = criterion_for(class_weights=[1.0] * 4 + [2.0] * 4)
        assert line["cross_entropy"] == pytest.approx(criterion(z, data.labels).item(), rel=1e-4)
        images, masks = (torch.stack([s[i] for s in data.samples]) for i in (0, 1))
        torch.manual_seed(0)
        terms = loss(config, criterion=criterion)(TinyCNN(8, width=8).eval(), images, data.labels, masks)
        assert terms.cross_entropy.item() == pytest.approx(line["cross_entropy"], rel=1e-4)

    def test_settings_hold_plain_numbers(self):
        config = TrainConfig(class_weights=torch.tensor([1.0, 2.0]))
        assert config.class_weights == (1.0, 2.0)
        assert dataclasses.replace(config, epochs=1).class_weights == (1.0, 2.0)

    def test_weights_that_do_not_fit_the_model(self, data):
        with pytest.raises(ValueError, match="`class_weights` must hold 8 numbers, one for each class of the model"):
            self.first_line(data, class_weights=[1.0, 2.0])
        with pytest.raises(ValueError, match="`pos_weight` must be None for classes that exclude each other"):
            self.first_line(data, pos_weight=2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_weights": "equal"}, "`class_weights` must be one of balanced, but got 'equal'"),
        ({"class_weights": [1.0, "a"]}, "`class_weights` must be 'balanced' or numbers, at least 0 and not all 0"),
        ({"class_weights": [1.0, -1.0]}, "`class_weights` must be 'balanced' or numbers"),
        ({"class_weights": [0, 0]}, "`class_weights` must be 'balanced' or numbers"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be below 1"),
        ({"pos_weight": 2.0, "output": "softmax"}, "`pos_weight` must be None for output='softmax'"),
        ({"pos_weight": 2.0, "class_weights": [1, 2]}, "`pos_weight` must be None beside class_weights"),
        ({"criterion": F.cross_entropy, "class_weights": [1, 2]}, "`class_weights` must be None for a criterion or an"),
        ({"objective": len, "label_smoothing": 0.1}, "`label_smoothing` must be 0 for a criterion or an objective"),
        ({"output": "raw", "criterion": len, "pos_weight": 2.0}, "`pos_weight` must be None for output='raw'"),
        ({"output": "raw", "criterion": len, "label_smoothing": 0.2}, "`label_smoothing` must be 0 for output='raw'"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


def test_what_criterion_for_refuses():
    with pytest.raises(ValueError, match="`labels` must be given for class_weights='balanced', but got None"):
        criterion_for(class_weights="balanced")
    with pytest.raises(ValueError, match="`class_weights` must be None or numbers for several labels per image"):
        criterion_for("sigmoid", class_weights="balanced", labels=SEVERAL)
    with pytest.raises(ValueError, match="`class_weights` must be None for several labels per image"):
        criterion_for("sigmoid", class_weights=[1, 2, 3])(scores(3, 3), SEVERAL)
