"""Guidance losses: the papers' formulas, derivatives, closed forms, edge cases, and training with them."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import Scored, TinyCNN, receptive_field
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GUIDANCE, GuidanceConfig, GuidanceLoss, SIBConfig, self_masks
from sibx.objectives.companions import hide_least_salient, shuffle_background, swap_backgrounds
from sibx.objectives.guidance_terms import energy_loss, l1_loss
from sibx.train import TrainConfig, fine_tune
from tests.references import guidance as reference

METHODS = tuple(GUIDANCE)
ON_MASKS = [m for m in METHODS if GUIDANCE[m].needs_masks]
AT_LAYER = [m for m in METHODS if GUIDANCE[m].at_layer]
RANDOM = ["background-noise", "actdiff", "saliency-guided"]
SEED = 3
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, 6, 6, dtype=torch.float64, generator=generator)
    masks = torch.zeros(4, 1, 6, 6, dtype=torch.bool)
    for n in range(4):
        masks[n, :, 1 : 3 + n % 3, n : n + 2] = True
    return images, torch.tensor([0, 1, 2, 0]), masks


@pytest.fixture
def net():
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3, 2, 1), nn.SiLU(), nn.Conv2d(4, 3, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(3, 3)).double()
    with torch.no_grad():  # as torch starts it, its input gradients are near zero
        for parameter in net.parameters():
            parameter *= 3
    return net


def loss_of(method, weight=1.0):
    """The loss, with the same random numbers at every call."""
    layer = "1" if method in AT_LAYER else "auto"
    loss = GuidanceLoss(GuidanceConfig(method, weight, layer, align="half_pixel"))  # the reference averages over blocks

    def seeded(*arguments, **named):
        torch.manual_seed(SEED)
        return loss(*arguments, **named)

    return seeded


def gradients(total, net):
    found = torch.autograd.grad(total, list(net.parameters()), retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


class TestFormulas:
    @every_method
    @pytest.mark.parametrize(
        ("empty", "border"), [((), 0), ((0, 3), 0), ((1,), 1)], ids=["all", "two-empty", "one-empty-undefined-borders"]
    )
    def test_equals_the_paper(self, method, empty, border, batch, net):
        """Undefined are a border around the object and the object's uppermost row, also where there is no mask."""
        images, labels, masks = batch
        undefined = (F.max_pool2d(masks.double(), 1 + 2 * border, 1, border) > 0) & ~masks
        undefined[:, :, 1] |= masks[:, :, 1] & bool(border)
        masks[list(empty)] = False
        terms = loss_of(method, 0.7)(net, images, labels, masks, undefined=undefined if border else None)
        torch.manual_seed(SEED)
        guidance = reference.term(method, net[:2], net[2:], images, labels, masks, undefined)
        cross_entropy = reference.cross_entropy(net, images, labels)
        for ours, theirs in (
            (terms.guidance, guidance),
            (terms.cross_entropy, cross_entropy),
            (terms.total, cross_entropy + 0.7 * guidance),
        ):
            assert abs(ours.item() - theirs.item()) < 1e-9
        assert torch.allclose(terms.logits, net(images))
        ours, theirs = (gradients(t, net) for t in (terms.total, cross_entropy + 0.7 * guidance))
        assert (ours - theirs).abs().max() < 1e-9
        assert (ours - gradients(cross_entropy, net)).abs().max() > 1e-6

    @every_method
    def test_parameter_gradients_are_the_finite_differences(self, method, batch, net):
        images, labels, masks = batch
        terms = loss_of(method)
        analytic = gradients(terms(net, images, labels, masks).total, net)
        start = nn.utils.parameters_to_vector(net.parameters()).detach()
        for k in range(0, len(start), 7):
            step = torch.zeros_like(start)
            step[k] = 1e-5
            sides = []
            for moved in (start + step, start - step):
                nn.utils.vector_to_parameters(moved, net.parameters())
                sides.append(terms(net, images, labels, masks).total.item())
            nn.utils.vector_to_parameters(start, net.parameters())
            assert analytic[k].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-7)

    def test_closed_forms_of_the_linear_softmax_model(self, batch):
        """z = W x: dz_y/dx = w_y, d CE/dx = W^T (p - e_y), d sum_k log p_k/dx = sum_k w_k - K W^T p."""
        images, labels, masks = batch
        net = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False)).double()
        w, x, m = net[1].weight, images.flatten(1), masks.expand_as(images).flatten(1)
        p = (x @ w.T).softmax(1)
        positive = (w[labels] * x).unflatten(1, (2, 36)).sum(1).relu()
        expected = {
            "gradient-penalty": ((p - F.one_hot(labels, 3)) @ w).square().sum(1).mean(),
            "rrr": ((w.sum(0) - 3 * p @ w) * ~m).square().sum(1).mean(),
            "energy": 1 - ((positive * m[:, :36]).sum(1) / positive.sum(1)).mean(),
            "l1": (positive / positive.amax(1, keepdim=True) - m[:, :36].double()).abs().mean(),
        }
        for method, value in expected.items():
            assert torch.isclose(loss_of(method)(net, images, labels, masks).guidance, value), method

    def test_energy_of_the_cam(self):
        """Behind global average pooling and a linear head the contributions are w_y . a / (h w): the CAM."""
        torch.manual_seed(0)
        net = TinyCNN(5, width=4, norm="group").double()
        images, labels = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 4, 2])
        masks = torch.zeros(3, 1, 32, 32, dtype=torch.bool)
        masks[:, :, 6:20, 9:30] = True
        cam = torch.einsum("bchw,bc->bhw", net.features(images), net.classifier.weight[labels]).relu()
        averages = {
            "half_pixel": F.avg_pool2d(masks.double(), 4)[:, 0],
            "receptive_field": receptive_field(net, net.features, images).pool(masks.double(), (8, 8))[:, 0],
        }
        for align, pooled in averages.items():
            expected = 1 - ((cam * pooled).sum((1, 2)) / cam.sum((1, 2))).mean()
            terms = GuidanceLoss(GuidanceConfig("energy-cam", 1.0, align=align))(net, images, labels, masks)
            assert torch.isclose(terms.guidance, expected)

    def test_energy_of_a_transformer(self):
        torch.manual_seed(0)
        net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)
        masks = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
        masks[:, :, :16] = True
        net.heads[0].weight.data.normal_()  # torchvision starts it at zero
        loss = GuidanceLoss(GuidanceConfig("energy-cam", 1.0))
        terms = loss(net, torch.randn(2, 3, 32, 32), torch.tensor([0, 2]), masks)
        assert 0 < terms.guidance < 1
        terms.total.backward()


class TestRanges:
    """The best, the worst and the undefined value of each bounded term."""

    mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])

    @pytest.mark.parametrize(
        ("attributions", "energy", "l1"),
        [
            ([[2.0, 2.0], [0.0, -3.0]], 0.0, 0.0),
            ([[-1.0, 0.0], [4.0, 4.0]], 1.0, 1.0),
            ([[1.0, 1.0], [1.0, 1.0]], 0.5, 0.5),
            ([[-1.0, -2.0], [-3.0, 0.0]], 1.0, 0.5),
            ([[0.0, 0.0], [0.0, 0.0]], 1.0, 0.5),
        ],
        ids=["best", "worst", "flat", "all-negative", "zero"],
    )
    def test_values(self, attributions, energy, l1):
        a = torch.tensor([[attributions]], requires_grad=True)
        for loss, value in ((energy_loss, energy), (l1_loss, l1)):
            result = loss(a, self.mask)
            assert result.tolist() == [value]
            (slope,) = torch.autograd.grad(result.sum(), a)
            assert slope.isfinite().all()
            assert slope[a <= 0].eq(0).all()

    def test_scale_does_not_matter(self):
        a = torch.randn(3, 1, 2, 2)
        for loss in (energy_loss, l1_loss):
            assert torch.allclose(loss(a, self.mask), loss(1000 * a, self.mask))

    def test_full_mask(self, batch, net):
        images, labels, masks = batch
        masks[:] = True
        values = {m: loss_of(m)(net, images, labels, masks) for m in ON_MASKS}
        assert values["energy"].guidance.abs() < 1e-12
        assert values["energy-cam"].guidance.abs() < 1e-12
        assert all(values[m].guidance == 0 for m in ("rrr", "rrr-cam", "actdiff"))
        assert torch.isclose(values["background-noise"].guidance, values["background-noise"].cross_entropy)
        assert torch.isclose(values["background-swap"].guidance, values["background-swap"].cross_entropy)

    def test_swap_lends_only_background(self):
        images = torch.arange(2.0)[:, None, None, None].expand(2, 3, 4, 4).clone()
        masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
        masks[0, :, :2] = masks[1, :, 1:3] = True
        images[masks.expand_as(images)] = 9.0
        swapped = swap_backgrounds(images, masks)
        assert (swapped[masks.expand_as(images)] == 9).all()
        assert [swapped[n][:, ~masks[n, 0]].unique().tolist() for n in (0, 1)] == [[1.0], [0.0]]

    def test_a_shuffled_background_has_the_same_pixels(self):
        images = torch.arange(2 * 3 * 5 * 4.0).view(2, 3, 5, 4)
        masks = torch.zeros(2, 1, 5, 4, dtype=torch.bool)
        masks[0, :, 1:3, 2:] = True
        shuffled = shuffle_background(images, masks)
        for before, after, mask in zip(images, shuffled, masks[:, 0], strict=True):
            assert torch.equal(before[:, mask], after[:, mask])
            assert sorted(before[:, ~mask].T.tolist()) == sorted(after[:, ~mask].T.tolist())
            assert not torch.equal(before, after)

    def test_what_is_least_salient_is_hidden(self, batch):
        """A linear model with a positive slope in the upper half and a negative one in the lower."""
        images, labels, _ = batch
        net = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False)).double()
        net[1].weight.data[:] = torch.where(torch.arange(36) < 18, 1.0, -1.0).repeat(2)
        hidden = hide_least_salient(net, images, labels)
        assert torch.equal(hidden[:, :, :3], images[:, :, :3])
        assert (hidden[:, :, 3:] != images[:, :, 3:]).all()
        assert (hidden.amin((2, 3)) >= images.amin((2, 3))).all()
        assert (hidden.amax((2, 3)) <= images.amax((2, 3))).all()

    def test_what_is_hidden_is_read_from_the_scores(self, batch, net):
        """Not from what is inside a wrapper: with the sign of the scores turned the other half is hidden."""
        images, labels, _ = batch
        changed = [(hide_least_salient(n, images, labels) != images)[:, 0] for n in (net, Scored(net, torch.neg))]
        assert torch.equal(changed[0], ~changed[1])


class TestBatches:
    @pytest.mark.parametrize("method", ON_MASKS)
    def test_images_without_an_object_take_no_part(self, method, batch, net):
        images, labels, masks = batch
        masks[2:] = False
        some = loss_of(method)(net, images, labels, masks).guidance
        assert torch.isclose(some, loss_of(method)(net, images[:2], labels[:2], masks[:2]).guidance)
        masks[:] = False
        none = loss_of(method)(net, images, labels, masks)
        assert none.guidance == 0
        assert torch.allclose(gradients(none.total, net), gradients(F.cross_entropy(net(images), labels), net))

    @pytest.mark.parametrize("method", [m for m in METHODS if m not in ON_MASKS])
    def test_methods_that_look_at_no_mask(self, method, batch, net):
        images, labels, masks = batch
        loss = loss_of(method)
        values = {loss(net, images, labels, m).guidance.item() for m in (None, masks, ~masks, masks & False)}
        assert len(values) == 1

    def test_a_single_object_has_no_other_background(self, batch, net):
        images, labels, masks = batch
        masks[1:] = False
        assert loss_of("background-swap")(net, images, labels, masks).guidance == 0

    @pytest.mark.parametrize("method", [m for m in METHODS if m not in ("background-swap", *RANDOM)])
    def test_one_image(self, method, batch, net):
        images, labels, masks = batch
        alone = [loss_of(method)(net, *(t[n : n + 1] for t in batch)).guidance for n in range(4)]
        assert torch.isclose(torch.stack(alone).mean(), loss_of(method)(net, images, labels, masks).guidance)

    @every_method
    def test_one_forward_and_no_trace(self, method, batch, net):
        images, labels, masks = batch
        loss_of(method)(net, images, labels, masks)  # measures how the layer's output is laid out
        before, calls = copy.deepcopy(net.state_dict()), []
        handle = net.register_forward_hook(lambda *_: calls.append(1))
        loss_of(method)(net, images, labels, masks)
        handle.remove()
        assert len(calls) == (2 if method == "saliency-guided" else 1)
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        assert not images.requires_grad
        assert images.grad is None
        assert net.training
        assert not any(m._forward_hooks for m in net.modules())

    @every_method
    def test_hooks_are_removed_after_an_exception(self, method, batch, net):
        def fail(*_):
            raise RuntimeError("on purpose")

        handle = net[-1].register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            loss_of(method)(net, *batch)
        handle.remove()
        assert not any(m._forward_hooks for m in net.modules())

    @every_method
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients_the_terms_are_the_same(self, method, batch, net, mode):
        expected = loss_of(method)(net, *batch)
        with mode():
            terms = loss_of(method)(net, *(t.clone() for t in batch))
        assert terms.guidance == expected.guidance
        assert terms.total == expected.total.detach()
        assert not terms.total.requires_grad
        assert not terms.total.is_inference()

    @every_method
    def test_frozen_features(self, method, batch, net):
        expected = loss_of(method)(net, *batch)
        net[:4].requires_grad_(False)
        terms = loss_of(method)(net, *batch)
        assert terms.guidance == expected.guidance
        terms.total.backward()
        assert net[-1].weight.grad.any()


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"method": "enrgy"}, "`method` must be one of energy, l1, rrr, .*but got 'enrgy'.*did you mean 'energy'"),
            ({"weight": -0.5}, "`weight` must be at least 0, but got -0.5"),
            ({"weight": float("nan")}, "`weight` must be at least 0, but got nan"),
            ({"align": "receptive"}, "`align` must be one of receptive_field, half_pixel, but got 'receptive'"),
            (
                {"layer": "features"},
                "`layer` must be 'auto' for method='energy', which uses no layer, but got 'features'",
            ),
        ],
    )
    def test_bad_configs(self, fields, message):
        with pytest.raises(ValueError, match=message):
            GuidanceConfig(**{"method": "energy", "weight": 1.0, **fields})

    def test_config_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            GuidanceConfig("energy", 1.0).weight = 2.0

    @pytest.mark.parametrize("method", ["energy", "background-swap"])
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "`images` must be a floating-point tensor"),
            ({"labels": torch.tensor([0])}, "`labels` must have 2 rows"),
            ({"labels": torch.tensor([0, 5])}, r"`labels` must lie in 0..4, the model's classes, but got \(0, 5\)"),
            ({"masks": torch.zeros(2, 1, 8, 8)}, r"`masks` must be a bool tensor of shape \(2, 1, 8, 8\)"),
            ({"masks": torch.zeros(2, 1, 4, 4, dtype=torch.bool)}, "`masks` must be a bool tensor"),
            ({"masks": None}, "`masks` must be given for method='(energy|background-swap)', but got None"),
            ({"undefined": torch.zeros(2, 1, 8, 8)}, r"`undefined` must be a bool tensor of shape \(2, 1, 8, 8\)"),
            ({"model": nn.Conv2d(3, 3, 1)}, r"`model` must return logits of shape \(B, K\)"),
        ],
    )
    def test_bad_batches(self, method, change, message):
        good = {
            "model": TinyCNN(5, width=4),
            "images": torch.zeros(2, 3, 8, 8),
            "labels": torch.tensor([0, 1]),
            "masks": torch.ones(2, 1, 8, 8, dtype=torch.bool),
        }
        with pytest.raises(ValueError, match=message):
            loss_of(method)(**{**good, **change})

    def test_background_swap_needs_two_images(self, batch, net):
        message = r"`images` must have at least 2 rows \(an object needs another image's background\)"
        with pytest.raises(ValueError, match=message):
            loss_of("background-swap")(net, *(t[:1] for t in batch))

    @pytest.mark.parametrize(("layer", "message"), [("9", "must be one of"), ("6", "must output a feature map")])
    def test_bad_layers(self, layer, message, batch, net):
        with pytest.raises(ValueError, match=f"`layer` .*{message}"):
            GuidanceLoss(GuidanceConfig("energy-cam", 1.0, layer))(net, *batch)
        assert not any(m._forward_hooks for m in net.modules())


class TestTraining:
    @pytest.fixture(scope="class")
    @staticmethod
    def data():
        return InMemoryDataset.load(SyntheticDataset("train", 32, size=48))

    @every_method
    def test_training_reduces_the_term(self, method, batch, net):
        # Certain answers are further apart than doubtful ones: divergence has to outweigh the cross-entropy.
        loss, values = loss_of(method, 1000.0 if method == "saliency-guided" else 10.0), []
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            terms = loss(net, *batch)
            values.append(terms.guidance.item())
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
        assert values[-1] < 0.95 * values[0]

    @every_method
    def test_fine_tune(self, method, data, tmp_path):
        torch.manual_seed(0)
        net = TinyCNN(8, width=8)
        before = copy.deepcopy(net.state_dict())
        config = TrainConfig(objective=GuidanceConfig(method, 0.5), epochs=1, batch_size=16)
        result = fine_tune(net, data, config=config, out_dir=tmp_path, progress=False)
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
        assert not torch.equal(before["features.0.weight"], result.model.features[0].weight)
        (line,) = result.history
        masked = {"masked"} if method in ON_MASKS else set()
        assert set(line) == {"epoch", "total", "cross_entropy", "guidance", "accuracy"} | masked
        assert line["total"] == pytest.approx(line["cross_entropy"] + 0.5 * line["guidance"], rel=1e-5)
        saved = load_checkpoint(tmp_path / "model.pt", TinyCNN(8, width=8))["config"]["objective"]
        expected = {"method": method, "weight": 0.5, "layer": "auto", "align": "receptive_field"}
        assert saved == {"kind": "GuidanceConfig", **expected}

    @pytest.mark.parametrize("layer", ["auto", "stage:-2"])
    def test_layer_is_looked_up_once(self, data, layer, monkeypatch):
        calls = []
        from sibx.models import finding

        look = finding._look_back
        monkeypatch.setattr(finding, "_look_back", lambda *args: calls.append(1) or look(*args))
        config = TrainConfig(objective=GuidanceConfig("energy-cam", 1.0, layer), epochs=1, batch_size=16)
        fine_tune(TinyCNN(8, width=8), data, config=config, progress=False)
        assert len(calls) == 1

    def test_own_masks_of_the_model(self, data):
        net = TinyCNN(8, width=8)
        masks = self_masks(net, data, config=SIBConfig.recommended("self"), progress=False)
        config = TrainConfig(objective=GuidanceConfig("energy-cam", 1.0), epochs=1, batch_size=16)
        result = fine_tune(net, data.with_masks(masks), config=config, progress=False)
        assert 0 < result.history[0]["guidance"] < 1
