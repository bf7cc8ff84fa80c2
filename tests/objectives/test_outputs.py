"""Objectives by what the logits are: a binary network learns as its twin with two logits; any criterion is taken."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sibx import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, TrainConfig, build_model, fine_tune, self_masks
from sibx.attribution import TopShare, vjp
from sibx.datasets import InMemoryDataset
from sibx.objectives import CKA, GUIDANCE, Frozen, Online, SufficientShare, Variance, class_evidence
from sibx.train import accuracy, predict
from tests.helpers.objectives import every_term

GIVEN = every_term()
OBJECTIVES = {
    "recommended": GIVEN,
    "input": replace(GIVEN, layers={"input": 1.0}, swap=0.0),
    "online": replace(GIVEN, masks=Online(TopShare(0.2), "class-evidence", detach=True), swap=0.0),
    "centered": replace(GIVEN, cotangent="centered_logit"),
}


def masks_like(images):
    masks = torch.zeros_like(images[:, :1], dtype=torch.bool)
    masks[:, :, 8:24, 4:20] = True
    return masks


@pytest.fixture
def case(images):
    return images, torch.tensor([0, 1, 1, 0]), masks_like(images)


@pytest.fixture(scope="module")
def two_classes(shapes):
    return InMemoryDataset(shapes, [s._replace(label=i % 2) for i, s in enumerate(shapes.samples[:8])])


class TestBinary:
    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_sib(self, objective, binary, case):
        totals = [SIBLoss(OBJECTIVES[objective])(network, *case) for network in binary]
        for one, two in zip(*(t[:5] for t in totals), strict=True):
            torch.testing.assert_close(one, two)
        gradients = [torch.autograd.grad(t.total, n.features[0].weight)[0] for t, n in zip(totals, binary, strict=True)]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
        assert totals[0].logits.shape == (4, 1)

    def test_the_published_cotangent_is_the_sigmoid_of_the_logit(self, binary, case):
        one, _ = binary
        images, labels, _ = case
        found = SIBLoss()(one, images, labels).vjp
        leaf = images.clone().requires_grad_()
        p = one(leaf).sigmoid()
        torch.testing.assert_close(found, torch.autograd.grad(p, leaf, p.detach())[0])

    @pytest.mark.parametrize("method", GUIDANCE)
    def test_guidance(self, method, binary, case):
        terms = []
        for network in binary:
            torch.manual_seed(3)
            terms.append(GuidanceLoss(GuidanceConfig(method, 1.0))(network, *case))
        factor = 4 if method == "rrr-cam" else 1  # the squared map is that of z, not of z / 2
        torch.testing.assert_close(terms[0].guidance, factor * terms[1].guidance)
        torch.testing.assert_close(terms[0].cross_entropy, terms[1].cross_entropy)

    def test_class_evidence(self, binary, images):
        """|c| up to a factor: std of (-c, c), as std of (-c/2, c/2) with two logits."""
        evidence = []
        for network in binary:
            features = network.features(images)
            evidence.append(class_evidence(network.classifier(features.mean((2, 3))), features))
        torch.testing.assert_close(evidence[0], 2 * evidence[1])
        assert evidence[0].amax() > 0

    @pytest.mark.parametrize("masks", [Frozen(TopShare(0.2)), Frozen(SufficientShare()), Frozen(TopShare(0.2), "vjp")])
    def test_own_masks(self, masks, binary, two_classes):
        config = replace(SIBConfig.recommended("self"), masks=masks)
        found = [self_masks(network, two_classes, config=config, progress=False) for network in binary]
        assert (found[0] == found[1]).float().mean() > 0.999
        assert found[0].any()

    @pytest.mark.parametrize("objective", [None, GIVEN], ids=["ce", "sib"])
    def test_training(self, objective, binary, two_classes, tmp_path):
        config = TrainConfig(objective=objective, epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.0)
        results = [fine_tune(n, two_classes, config=config, val_data=two_classes, progress=False) for n in binary]
        for one, two in zip(*(r.history for r in results), strict=True):
            shared = [k for k in one if not k.startswith("norm_")]
            assert [one[k] for k in shared] == pytest.approx([two[k] for k in shared], rel=1e-4, abs=1e-6)
        assert accuracy(results[0].model, two_classes) == accuracy(results[1].model, two_classes)
        assert predict(binary[0], two_classes)[0].tolist() == predict(binary[1], two_classes)[0].tolist()

    def test_it_learns(self, two_classes):
        """Both classes of eight images, by one logit."""
        torch.manual_seed(0)
        config = TrainConfig(epochs=30, batch_size=8, learning_rate=1e-2, batch_norm="train", augmentation="none")
        result = fine_tune(build_model("tiny_cnn", 1), two_classes, config=config, progress=False)
        assert accuracy(result.model, two_classes) == 1


@pytest.mark.parametrize("objective", [None, GIVEN], ids=["ce", "sib"])
def test_a_softmax_is_noticed_once(objective, model, two_classes):
    """A network that ends in one learns from the softmax of it."""
    config = TrainConfig(objective=objective, epochs=2, batch_size=4, learning_rate=0.0)
    if objective is not None:
        config = replace(config, objective=replace(objective, layers={"0.features": 1.0}))
    with pytest.warns(UserWarning, match="seems to end in a softmax") as found:
        fine_tune(torch.nn.Sequential(model, torch.nn.Softmax(1)), two_classes, config=config, progress=False)
    assert len(found) == 1


class TestCriterion:
    def test_any_function(self, model, case):
        """Weights of classes and smoothed labels, in the total and in every loss."""
        images, labels, masks = case

        def criterion(z, y):
            return F.cross_entropy(z, y, weight=torch.arange(1.0, 6.0), label_smoothing=0.1)

        expected = criterion(model(images), labels)
        for loss in (
            SIBLoss(GIVEN, criterion=criterion),
            GuidanceLoss(GuidanceConfig("energy", 1.0), criterion=criterion),
        ):
            torch.testing.assert_close(loss(model, images, labels, masks).cross_entropy, expected.detach())

    @pytest.mark.parametrize("objective", [None, GIVEN, GuidanceConfig("energy", 1.0)])
    def test_of_a_training(self, objective, binary, two_classes):
        """What weighs positive images more changes what is minimized."""
        one, _ = binary

        def weighted(z, y):
            return F.binary_cross_entropy_with_logits(z[:, 0], y.float(), pos_weight=torch.tensor(5.0))

        config = TrainConfig(objective=objective, epochs=1, batch_size=8, learning_rate=0.0, augmentation="none")
        histories = [
            fine_tune(one, two_classes, config=replace(config, criterion=c), progress=False).history[0]
            for c in (None, weighted)
        ]
        images = torch.stack([s.image for s in two_classes.samples])
        with torch.no_grad():
            expected = weighted(one(images), two_classes.labels)
        assert histories[1]["cross_entropy"] == pytest.approx(expected.item(), rel=1e-4)
        assert histories[0]["cross_entropy"] != pytest.approx(expected.item(), rel=1e-2)

    def test_raw(self, model, case):
        """A regression: v = 1, and no accuracy."""
        images, _, masks = case
        config = SIBConfig(cotangent="ones", foreground=CKA(0.1), background=Variance(1.0))
        wanted = torch.tensor([0.5, -1.0, 2.0, 0.0])
        loss = SIBLoss(config, output="raw", criterion=lambda z, y: F.mse_loss(z[:, 0], y))
        terms = loss(model, images, wanted, masks)
        torch.testing.assert_close(terms.cross_entropy, F.mse_loss(model(images)[:, 0], wanted).detach())
        torch.testing.assert_close(terms.vjp, vjp(model, images, cotangent="ones").map)

    def test_raw_training(self, model, two_classes):
        config = TrainConfig(
            output="raw", criterion=lambda z, y: F.mse_loss(z[:, 0], y.float()), epochs=1, batch_size=4
        )
        (line,) = fine_tune(model, two_classes, config=config, val_data=two_classes, progress=False).history
        assert "cross_entropy" in line
        assert not {"accuracy", "val_accuracy"} & set(line)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y, s: SIBLoss(output="raw"), "`criterion` must be given for output='raw'"),
        (lambda m, x, y, s: GuidanceLoss(GuidanceConfig("rrr", 1.0), output="raw"), "`criterion` must be given"),
        (lambda m, x, y, s: SIBLoss(output="logits"), "`output` must be one of auto, softmax, sigmoid, raw"),
        (lambda m, x, y, s: SIBLoss(GIVEN)(m[0], x, y + 1, s), r"`labels` must lie in 0..1"),
        (lambda m, x, y, s: SIBLoss(GIVEN, output="softmax")(m[0], x, y, s), "`output` must be 'sigmoid' or 'raw'"),
        (
            lambda m, x, y, s: SIBLoss(GIVEN, output="raw", criterion=lambda z, _: z.mean())(m[1], x, y, s),
            "`cotangent` must not be 'log_probability' for output='raw'",
        ),
        (
            lambda m, x, y, s: GuidanceLoss(GuidanceConfig("rrr", 1.0), output="raw", criterion=lambda z, _: z.mean())(
                m[1], x, y, s
            ),
            "`output` must be 'softmax' or 'sigmoid' for method='rrr'",
        ),
        (
            lambda m, x, y, s: GuidanceLoss(
                GuidanceConfig("saliency-guided", 1.0), output="raw", criterion=lambda z, _: z.mean()
            )(m[1], x, y),
            "`output` must be 'softmax' or 'sigmoid' for method='saliency-guided'",
        ),
        (lambda *_: TrainConfig(output="raw"), "`criterion` must be given for output='raw'"),
        (lambda *_: TrainConfig(criterion="bce"), "`criterion` must be None or a function"),
        (lambda *_: TrainConfig(objective=len, criterion=len), "`criterion` must be None for an objective of your own"),
        (
            lambda *_: TrainConfig(output="raw", criterion=len, keep="best"),
            "`monitor` must be 'loss' or a function for output='raw', whose scores have no classes",
        ),
    ],
)
def test_errors(call, message, binary, case):
    with pytest.raises(ValueError, match=message):
        call(binary, *case)
