"""SIBLoss around its formulas: calling modes, precision, transformers, alignment, balance, and its warning."""

import re
import warnings
from dataclasses import replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from sibx._hsic import unit_rows
from sibx.attribution import DensityMask, TopShare
from sibx.models import Align, HalfPixel, TinyCNN, receptive_field, record
from sibx.objectives import (
    CKA,
    HSIC,
    Fraction,
    Frozen,
    Given,
    GrabCut,
    GradNorm,
    Online,
    Shuffled,
    SIBConfig,
    SIBLoss,
    SufficientShare,
    Variance,
    cka,
    evidence_masks,
    self_masks,
)
from sibx.objectives.balance import GradientBalance, gradient_norm
from sibx.objectives.own_masks.tail import Tail
from sibx.objectives.sign_flip import SignFlipGuard
from sibx.objectives.swap import BackgroundSwap
from tests.helpers.objectives import every_term

CONFIGS = {"published": SIBConfig.published(), "given": every_term(), "recommended": SIBConfig.recommended("given")}
ALIGNMENTS = get_args(Align)
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def assert_same(a, b):
    for name, value in a._asdict().items():
        assert torch.equal(value.nan_to_num(), getattr(b, name).nan_to_num()), name


def test_stages_are_the_layers_that_they_name(batch, net):
    """Of the loss, and of own masks, which are read at the first stage named."""
    named, staged = ({"features.2": 2.0, "features": 1.0}, {"stage:-2": 2.0, "stage:-1": 1.0})
    a, b = (SIBLoss(SIBConfig.recommended("given", layers))(net, *batch) for layers in (named, staged))
    assert_same(a, b)
    assert a.background > 0
    a, b = (evidence_masks(net, batch[0], SIBConfig.recommended("self", layers)) for layers in (named, staged))
    assert torch.equal(a, b)
    assert not torch.equal(a, evidence_masks(net, batch[0], SIBConfig.recommended("self")))
    norms = SIBLoss(SIBConfig.recommended("given", staged)).gradient_norms(net, *batch)
    assert set(norms) == {"cross_entropy", "background[stage:-2]", "background[stage:-1]"}
    with pytest.raises(ValueError, match="`layer` must be a stage of TinyCNN"):
        SIBLoss(SIBConfig.recommended("given", {"stage:-9": 1.0}))(net, *batch)


class Relued(nn.Module):
    """A network whose last feature map is a convolution's after an activation that is no module."""

    def __init__(self):
        super().__init__()
        self.one, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, images):
        return self.fc(F.relu(self.one(images)).mean((2, 3)))


TWICE = [("features", "stage:-1"), ("input", "features.2", "stage:-2"), ("one:relu", "stage:-1")]


@pytest.mark.parametrize("names", TWICE)
def test_a_layer_counts_once(batch, net, names):
    """Under two names its weight would count twice, and ``layers`` would not say so."""
    model = Relued().double() if "one:relu" in names else net
    with pytest.raises(ValueError, match=r"`layers` must name every layer once .*stage:-"):
        SIBLoss(SIBConfig.recommended("given", dict.fromkeys(names, 1.0)))(model, *batch)


def test_an_activation_is_a_layer_of_its_own(batch):
    both = SIBConfig.recommended("given", {"one": 1.0, "one:relu": 1.0})
    assert SIBLoss(both)(Relued().double(), *batch).background > 0


class TestModes:
    """R is a gradient, so the terms need a graph even where the caller asks for none."""

    @every_config
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients_the_terms_are_the_same(self, batch, net, config, mode):
        expected = SIBLoss(config)(net, *batch)
        assert expected.background > 0
        with mode():
            terms = SIBLoss(config)(net, *(t.clone() for t in batch))
            assert not torch.is_grad_enabled()
        assert_same(terms, expected)
        assert not terms.total.requires_grad
        assert not terms.total.is_inference()

    @pytest.mark.parametrize("frozen", ["features", ""], ids=["features", "everything"])
    def test_frozen_weights(self, batch, net, frozen):
        expected = SIBLoss(CONFIGS["given"])(net, *batch)
        net.get_submodule(frozen).requires_grad_(False)
        terms = SIBLoss(CONFIGS["given"])(net, *batch)
        assert_same(terms, expected)
        if frozen:
            terms.total.backward()
            assert net.classifier.weight.grad.any()

    def test_a_model_without_one_tensor_of_logits(self, batch):
        class Tuple(nn.Module):
            def __init__(self):
                super().__init__()
                self.features = nn.Conv2d(3, 4, 3, padding=1).double()

            def forward(self, images):
                return self.features(images), 0

        with pytest.raises(ValueError, match=r"`model` must return logits .* but got a tuple"):
            SIBLoss(CONFIGS["given"])(Tuple(), *batch)


class TestPrecision:
    @every_config
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_leaves_the_terms_in_float32(self, batch, net, config, dtype):
        images, labels, masks = batch
        net, images = net.float(), images.float()
        expected = SIBLoss(config)(net, images, labels, masks)
        seen = []
        handle = net.features[0].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        with torch.autocast("cpu", dtype):
            terms = SIBLoss(config)(net, images, labels, masks)
        handle.remove()
        assert dtype in seen
        for name, value in terms._asdict().items():
            assert value.dtype == (torch.int64 if name == "saturated" else torch.float32), name
        for name in ("total", "cross_entropy", "foreground", "background"):
            assert getattr(terms, name).item() == pytest.approx(getattr(expected, name).item(), rel=0.05), name
        assert F.cosine_similarity(terms.vjp.flatten(1), expected.vjp.flatten(1)).min() > 0.99
        terms.total.backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())


class TestTransformers:
    LAYERS = ("input", "encoder.layers.encoder_layer_1.ln_1")  # the last is what find_cam_layer names

    @pytest.fixture
    def vit(self):
        torch.manual_seed(0)
        net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5).double()
        nn.init.normal_(net.heads.head.weight)  # torchvision starts it at zero
        return net

    @pytest.mark.parametrize(
        ("config", "size"),
        [
            (SIBConfig(foreground=HSIC(1), masks=Given()), 32),
            (every_term(), 4),
            (every_term(layers=dict.fromkeys(LAYERS, 1.0)), 4),
            (SIBConfig({LAYERS[1]: 1.0}, Online(DensityMask(temperature=1.0)), HSIC(1)), 4),
        ],
        ids=["input", "tokens", "both", "self-online"],
    )
    def test_parameter_gradients_are_the_finite_differences(self, batch, vit, config, size):
        loss = SIBLoss(config)
        terms = loss(vit, *batch)
        terms.total.backward()
        assert terms.vjp.shape[2:] == (size, size)
        for name in ("conv_proj.weight", "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"):
            parameter = vit.get_parameter(name)
            direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            sides = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    parameter += step * direction
                sides.append(loss(vit, *batch).total.item())
            with torch.no_grad():
                parameter += 1e-6 * direction
            slope = (parameter.grad * direction).sum().item()
            assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4)

    def test_swap_is_the_definition(self, batch, vit):
        """Behind the last normalization the patches reach the logits through the attention alone."""
        images, labels, masks = batch
        last, m = vit.encoder.layers[1], F.avg_pool2d(masks.double(), 8).flatten(1)[..., None]
        stream = vit.encoder.layers[0](
            torch.cat([vit.class_token.expand(6, -1, -1), vit._process_input(images)], 1) + vit.encoder.pos_embedding
        )
        tokens = last.ln_1(stream)
        background = (tokens[:, 1:] * (1 - m)).sum(1, keepdim=True) / (1 - m).sum(1, keepdim=True)
        mixed = torch.cat([tokens[:, :1], tokens[:, 1:] * m + (1 - m) * background.roll(1, 0)], 1)
        after = stream + last.self_attention(mixed, mixed, mixed, need_weights=False)[0]
        logits = vit.heads(vit.encoder.ln(after + last.mlp(last.ln_2(after)))[:, 0])
        terms = SIBLoss(every_term())(vit, *batch)
        assert torch.isclose(terms.background_swap, F.cross_entropy(logits, labels))
        assert torch.allclose(terms.logits, vit(images))

    def test_swap_takes_the_backgrounds_of_known_objects_only(self, batch, vit, net):
        """Of an image without a mask the object would come along."""
        images, labels, masks = batch
        masks[[1, 4]] = False
        masks[2] = True  # no background at all
        config = every_term()
        for model in (vit, net):
            terms = SIBLoss(config)(model, images, labels, masks)
            others = images.clone()
            others[[1, 4]] += torch.randn_like(others[[1, 4]])
            changed = SIBLoss(config)(model, others, labels, masks)
            assert torch.isclose(changed.background_swap, terms.background_swap)

    def test_swap_of_a_thin_margin(self):
        """The mean of a background of less than one cell is a mean all the same."""
        masks = torch.ones(2, 1, 8, 8, dtype=torch.bool)
        masks[:, :, 0, 0] = False  # a sixteenth of a cell
        swap = BackgroundSwap(masks, {"layer": nn.Identity()}, HalfPixel())
        features = torch.tensor([7.0, -3.0]).view(2, 1, 1, 1).expand(2, 5, 2, 2)
        mixed = swap._mix(features)
        assert torch.allclose(mixed[0, :, 0, 0], torch.tensor(7 * 15 / 16 - 3 / 16))
        assert torch.allclose(mixed[1, :, 0, 0], torch.tensor(-3 * 15 / 16 + 7 / 16))
        assert torch.equal(mixed[:, :, 1], features[:, :, 1])

    @pytest.mark.parametrize("layers", ["auto", {"input": 1.0, LAYERS[1]: 1.0}])
    def test_ramp(self, batch, vit, layers):
        """All but the cross-entropy of the clean images counts by the ramp, its gradient too."""
        loss, found = SIBLoss(every_term(layers=layers)), {}
        for ramp in (0.0, 0.25, 1.0):
            terms = loss(vit, *batch, ramp=ramp)
            found[ramp] = terms.total, torch.autograd.grad(terms.total, vit.heads.head.weight)[0]
        clean = F.cross_entropy(vit(batch[0]), batch[1])
        (slope,) = torch.autograd.grad(clean, vit.heads.head.weight)
        assert torch.isclose(found[0.0][0], clean)
        assert torch.allclose(found[0.0][1], slope)
        for quarter, full, none in zip(found[0.25], found[1.0], found[0.0], strict=True):
            assert torch.allclose(quarter, 0.75 * none + 0.25 * full)
        with pytest.raises(ValueError, match=r"`ramp` must lie in \[0, 1\], but got 2"):
            loss(vit, *batch, ramp=2)

    def test_online_class_evidence(self, batch, vit):
        config = SIBConfig("auto", Online(TopShare(0.25), "class-evidence", detach=True))
        terms = SIBLoss(config)(vit, *batch[:2])
        with record(vit, {"": vit.get_submodule(self.LAYERS[1])}, tokens=True) as seen:
            logits = vit(batch[0])
        slopes = [torch.autograd.grad(z.sum(), seen[""], retain_graph=True)[0] for z in logits.unbind(1)]
        evidence = torch.stack([(slope * seen[""]).sum(2)[:, 1:] for slope in slopes]).std(0)
        assert torch.equal(terms.soft_mask.flatten(1), TopShare(0.25)(evidence.view(6, 1, 4, 4)).flatten(1))

    def test_swin(self, batch):
        torch.manual_seed(0)
        net = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=5).double()
        terms = SIBLoss(every_term(layers={"input": 1.0, "permute": 1.0}))(net, *batch)
        assert terms.vjp.shape == (6, 16, 8, 8)
        terms.total.backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())

    def test_self_masks_of_tokens(self, vit, shapes):
        for config in (
            replace(SIBConfig.recommended("self"), masks=Frozen(TopShare())),
            SIBConfig("auto", Frozen(TopShare(), "vjp"), cotangent="log_probability"),
        ):
            masks = self_masks(vit.float(), shapes, config=config, progress=False)
            assert (masks.flatten(1).sum(1) == round(0.2 * 1024)).all()


class TestAlignment:
    def test_masks_and_images_are_averaged_where_the_units_look(self, batch, net):
        images, _, masks = batch
        terms = SIBLoss(every_term())(net, *batch)
        field = receptive_field(net, net.features, images)
        assert field == ((4, 4), (1, 1))
        m = field.pool(masks.double(), (8, 8))
        assert torch.equal(terms.soft_mask, m)
        strength = (terms.vjp * net.features(images)).sum(1, keepdim=True).abs()
        expected = ((strength * (1 - m)).flatten(1).sum(1) / strength.flatten(1).sum(1)).mean()
        assert torch.isclose(terms.background, expected)
        rows = [unit_rows(t * m) for t in (terms.vjp, field.pool(images, (8, 8)))]
        assert torch.isclose(terms.foreground, cka(*rows))

    def test_patches_side_by_side_do_not_mind(self, batch):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        config = every_term()
        a, b = (SIBLoss(replace(config, align=align))(net.double(), *batch) for align in ALIGNMENTS)
        assert all(torch.allclose(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))

    def test_input_space_does_not_mind(self, batch, net):
        a, b = (SIBLoss(replace(SIBConfig.published(), align=align))(net, *batch[:2]) for align in ALIGNMENTS)
        assert_same(a, b)

    def test_what_cannot_be_measured_lies_in_equal_cells(self, batch):
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 5)).double()
        config = every_term(layers={"1": 1.0})
        with pytest.warns(UserWarning, match=r"equal cells of the image .* must have units that each look"):
            found = SIBLoss(config)(net, *batch)
        assert_same(found, SIBLoss(replace(config, align="half_pixel"))(net, *batch))
        assert_same(found, SIBLoss(config)(net, *batch))  # one warning is enough

    def test_self_masks_are_drawn_where_the_units_look(self, shapes):
        net = TinyCNN(8, width=8, norm="group")
        config = replace(SIBConfig.recommended("self"), masks=Frozen(TopShare()))
        a, b = (self_masks(net, shapes, config=replace(config, align=align), progress=False) for align in ALIGNMENTS)
        rows = torch.arange(32.0)  # along columns the mirrored copies take the shift out
        centers = [(m.sum((1, 3)) * rows).sum(1) / m.sum((1, 2, 3)) for m in (a, b)]
        assert 0.3 < (centers[1] - centers[0]).mean() < 0.6  # the net's units look half a pixel before their cells


class TestGradientNorms:
    @pytest.mark.parametrize("form", ["linear", "exponential"])
    def test_is_the_definition(self, batch, net, form):
        layers = {"input": 1.5, "features": 0.5}
        config = SIBConfig(layers, Given(), HSIC(0.3), Variance(2.0), swap=0.7, form=form)
        norms = SIBLoss(config)(net, *batch), SIBLoss(config).gradient_norms(net, *batch)
        terms = [
            "cross_entropy",
            "foreground[input]",
            "background[input]",
            "foreground[features]",
            "background[features]",
        ]
        assert list(norms[1]) == [*terms, "background_swap"]

        def total(**fields):
            return SIBLoss(replace(config, **fields))(net, *batch).total

        alone = {"foreground": HSIC(0.0), "background": Variance(0.0), "swap": 0.0}
        plain = total(**alone)
        expected = {
            "cross_entropy": plain,
            "foreground[input]": total(**alone | {"layers": {"input": 1.5}, "foreground": HSIC(0.3)}) - plain,
            "background[features]": total(**alone | {"layers": {"features": 0.5}, "background": Variance(2.0)}) - plain,
            "background_swap": total(**alone | {"swap": 0.7}) - plain,
        }
        for name, value in expected.items():
            assert norms[1][name] == pytest.approx(gradient_norm(value, list(net.parameters())).item()), name

    def test_published_weights_have_no_pull(self, batch, net):
        norms = SIBLoss().gradient_norms(net, *batch[:2])
        assert norms["foreground"] < 1e-2 * norms["cross_entropy"]

    def test_nothing_changes(self, batch):
        net, loss = TinyCNN(5, width=8).double(), SIBLoss(replace(CONFIGS["given"], balance=GradNorm()))
        before = {k: v.clone() for k, v in (net.state_dict() | loss.state_dict()).items()}
        with torch.no_grad():
            norms = loss.gradient_norms(net, *batch)
        assert all(torch.equal(v, before[k]) for k, v in (net.state_dict() | loss.state_dict()).items())
        assert all(p.grad is None for p in net.parameters())
        assert net.training
        assert all(norms.values())

    def test_terms_that_there_are_not(self, batch, net):
        images, labels, masks = batch
        norms = SIBLoss(CONFIGS["given"]).gradient_norms(net, images, labels, masks & False)
        assert [name for name, norm in norms.items() if norm > 0] == ["cross_entropy"]
        net.requires_grad_(False)
        assert set(SIBLoss(CONFIGS["given"]).gradient_norms(net, *batch).values()) == {0.0}


class TestBalance:
    CONFIG = replace(every_term(layers={"input": 2.0, "features": 0.5}), balance=GradNorm(3))

    @pytest.mark.parametrize("form", ["linear", "exponential"])
    def test_pulls_are_weights_times_the_cross_entropy(self, batch, net, form):
        loss = SIBLoss(replace(self.CONFIG, form=form))
        terms = loss(net, *batch)
        norms = loss.gradient_norms(net, *batch)
        yardstick = norms.pop("cross_entropy")
        weights = [0.1 * 2, 1 * 2, 0.1 * 0.5, 1 * 0.5, 1]
        assert [n / yardstick for n in norms.values()] == pytest.approx(weights, rel=1e-5)
        scales = loss.balance.scales()
        plain = SIBLoss(replace(self.CONFIG, balance=None))(net, *batch)
        assert torch.isclose(plain.background, terms.background)  # terms are reported as they are
        swap = scales["background_swap"] * terms.background_swap
        only_swap = SIBLoss(replace(self.CONFIG, form=form))
        only_swap.load_state_dict(loss.state_dict())
        only_swap.config = replace(only_swap.config, foreground=CKA(0.0), background=Fraction(0.0))
        assert torch.isclose(only_swap.eval()(net, *batch).total, terms.cross_entropy + swap)

    def test_averages_run_and_checkpoints_carry_them(self, batch, net):
        loss, seen = SIBLoss(self.CONFIG), []
        for step in range(7):
            with torch.no_grad():
                net.classifier.weight *= 1.1
            expected = SIBLoss(self.CONFIG).gradient_norms(net, *batch)["cross_entropy"]
            before = loss.balance.norms[0].item()
            loss(net, *batch)
            after = loss.balance.norms[0].item()
            seen.append(after != before)
            if step == 3:
                assert after == pytest.approx(0.9 * before + 0.1 * expected, rel=1e-5)
        assert seen == [True, False, False, True, False, False, True]
        other = SIBLoss(self.CONFIG)
        other.load_state_dict(loss.state_dict())
        assert torch.equal(other(net, *batch).total, loss(net, *batch).total)
        assert other.balance.steps == 8

    def test_only_training_measures(self, batch, net):
        loss = SIBLoss(self.CONFIG)
        loss.eval()(net, *batch)
        with torch.no_grad():
            loss.train()(net, *batch)
        assert loss.balance.steps == 0
        assert {float(scale) for scale in loss.balance.scales().values()} == {1.0}

    def test_a_term_without_gradient_keeps_its_scale(self):
        weight, balance = torch.ones(1, requires_grad=True), GradientBalance(("cross_entropy", "a", "b"), 1)

        def scales(*slopes):
            values = {name: slope * weight.sum() for name, slope in zip(balance.names, slopes, strict=True)}
            weights = dict.fromkeys(balance.names, 1.0)
            factors = balance.factors(values, weights, [weight], fit=torch.tensor(1.0), learn=True)
            return {name: float(factor) for name, factor in factors.items()}

        assert scales(2.0, 0.0, 1e-9) == {"cross_entropy": 1.0, "a": 1.0, "b": 1e6}
        assert scales(torch.inf, 4.0, torch.nan) == {"cross_entropy": 1.0, "a": 0.5, "b": 1e6}

    def test_none_has_no_state(self):
        assert not SIBLoss().state_dict()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"align": "cells"}, "`align` must be one of receptive_field, half_pixel"),
            ({"balance": "gradnorm"}, "`balance` must be one of GradNorm, Share, None, but got 'gradnorm'"),
        ],
    )
    def test_bad_configs(self, fields, message):
        with pytest.raises(ValueError, match=message):
            SIBConfig(**fields)


class TestSignFlip:
    @staticmethod
    def turn(net, sign):
        """Make all contributions to a class speak for it, or all against it."""
        with torch.no_grad():
            net.features[-2].bias.fill_(3)
            net.classifier.weight.copy_(sign * net.classifier.weight.abs())

    def test_warns_once(self, batch, net):
        loss = SIBLoss(SIBConfig("auto", Given(), cotangent="logit"))
        self.turn(net, 1)
        assert [loss(net, *batch).positive_share.item() for _ in range(10)] == [1] * 10
        self.turn(net, -1)
        assert [loss(net, *batch).positive_share.item() for _ in range(3)] == [0] * 3
        advice = "Lower the background term's weight, or take the cotangent 'log_probability' instead of 'logit'"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(20):
                loss(net, *batch)
        (warning,) = caught
        assert re.search(rf"only 4.% of .* after 100%\)\. .* {advice}\.", str(warning.message))

    def test_follows_the_running_mean(self, recwarn):
        guard = SignFlipGuard()
        for share in [1.0] * 200 + [0.4] * 17:
            guard(torch.tensor(share), "log_probability")
        assert not recwarn
        guard(torch.tensor(0.4), "log_probability")  # 0.4 + 0.6 * 0.9^18 = 0.49
        assert str(recwarn.pop().message).endswith("Lower the background term's weight.")

    def test_an_early_fall_is_one(self):
        guard = SignFlipGuard()
        for share in [0.98, 0.98] + [0.07] * 7:
            guard(torch.tensor(share), "logit")
        with pytest.warns(UserWarning, match=r"only 18% of .* after 98%"):
            guard(torch.tensor(0.07), "logit")

    def test_noise_of_the_first_steps_is_no_fall(self, recwarn):
        guard = SignFlipGuard()
        for share in [0.7] * 3 + [0.45] * 40:
            guard(torch.tensor(share), "logit")
        assert not recwarn

    def test_low_from_the_start_is_no_fall(self, recwarn):
        guard = SignFlipGuard()
        for _ in range(50):
            guard(torch.tensor(0.45), "logit")
        assert not recwarn

    def test_says_nothing_without_training_or_feature_layers(self, batch, net):
        for loss in (SIBLoss(CONFIGS["given"]).eval(), SIBLoss()):
            loss(net, *batch)
            assert loss._guard.steps == 0


class TestShuffledMasks:
    """The control for masks that are made during training: every image gets those of the one before it."""

    def test_given(self, batch, net):
        images, labels, masks = batch
        config = CONFIGS["given"]
        shuffled = SIBLoss(replace(config, masks=Shuffled(config.masks)))
        assert_same(shuffled(net, *batch), SIBLoss(config)(net, images, labels, masks.roll(1, 0)))
        assert shuffled.gradient_norms(net, *batch) == SIBLoss(config).gradient_norms(
            net, images, labels, masks.roll(1, 0)
        )

    @pytest.mark.parametrize("detached", [False, True])
    def test_online(self, batch, net, detached):
        masks = Online(detach=detached)
        own, shuffled = (SIBLoss(SIBConfig(masks=m))(net, *batch[:2]) for m in (masks, Shuffled(masks)))
        assert torch.equal(shuffled.soft_mask, own.soft_mask.roll(1, 0))
        assert shuffled.background != own.background


class TestSufficientShare:
    """The smallest share of the evidence whose features alone keep the prediction."""

    class Corner(nn.Module):
        """Class 1 where the 16 pixels of the upper left corner are bright by half or more, class 0 elsewhere."""

        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(3, 1, 1, bias=False)
            nn.init.constant_(self.features.weight, 1 / 3)

        def forward(self, images):
            bright = self.features(images)[:, 0, :4, :4].mean((1, 2))
            return torch.stack([torch.full_like(bright, 0.5), bright], 1)

    def choose(self, evidence, shares):
        model, images = self.Corner().eval(), torch.zeros(len(evidence), 3, 8, 8)
        images[:, :, :4, :4] = 1
        return SufficientShare(shares)(evidence, Tail(model, "features", images, HalfPixel()))

    def test_as_small_as_it_may_be(self):
        corner = torch.zeros(1, 1, 8, 8)
        corner[..., :4, :4] = torch.arange(16.0, 0, -1).view(4, 4)
        elsewhere = corner.flip(2, 3)
        # 8 of 64 pixels make up half of the corner, 4 do not; evidence elsewhere never does.
        shares = (4 / 64, 9 / 64, 24 / 64)
        masks = self.choose(torch.cat([corner, elsewhere]), shares)
        assert masks.flatten(1).sum(1).tolist() == [9, 24]
        assert masks[0, 0, :4, :4].sum() == 9

    def test_a_row_does_not_depend_on_its_batch(self):
        evidence = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        together = self.choose(evidence, (0.1, 0.3, 0.6))
        assert torch.equal(together, torch.cat([self.choose(e[None], (0.1, 0.3, 0.6)) for e in evidence]))

    def test_of_a_network(self, shapes):
        config = replace(SIBConfig.recommended("self"), masks=Frozen(SufficientShare((0.1, 0.5))))
        net = TinyCNN(8, width=8).train()
        masks = self_masks(net, shapes, config=config)
        sizes = set(masks.flatten(1).sum(1).tolist())
        assert sizes <= {round(0.1 * 1024), round(0.5 * 1024)}
        assert net.training
        images = torch.stack([shapes[i].image for i in range(4)])
        assert torch.equal(evidence_masks(net, images, config), masks[:4])

    def test_of_a_transformer(self):
        torch.manual_seed(0)
        vit = VisionTransformer(16, 4, 1, 2, 8, 16, num_classes=3)
        config = replace(SIBConfig.recommended("self"), masks=Frozen(SufficientShare((0.25, 0.75))), align="half_pixel")
        masks = evidence_masks(vit, torch.randn(3, 3, 16, 16), config)
        assert set(masks.flatten(1).sum(1).tolist()) <= {64, 192}

    @pytest.mark.parametrize("shares", [(), (0.0, 0.5), (0.5, 1.1), (0.5, 0.2), (0.2, 0.2)])
    def test_wrong_shares(self, shares):
        with pytest.raises(ValueError, match="shares"):
            SufficientShare(shares)

    def test_not_online(self):
        with pytest.raises(ValueError, match=r"`rule` must look at the evidence alone .*SufficientShare"):
            Online(SufficientShare(), detach=True)


class TestGrabCut:
    """Masks that end where the colors do."""

    @staticmethod
    def scenes(count=3):
        """A bright square of 12 pixels at different places on a dark ground, and evidence that is a blob inside it."""
        images, evidence = torch.zeros(count, 3, 32, 32), torch.zeros(count, 1, 32, 32)
        noise = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        truth = torch.zeros(count, 1, 32, 32, dtype=torch.bool)
        rows = torch.arange(32.0)
        for i in range(count):
            top, left = 4 + 6 * i, 14 - 4 * i
            truth[i, :, top : top + 12, left : left + 12] = True
            distance = (rows[:, None] - top - 4).square() + (rows[None] - left - 7).square()
            evidence[i] = (-distance / 60).exp()  # not centered in the square
        images = torch.where(truth, 0.8, 0.2) + 0.05 * noise
        return images, evidence, truth

    def test_finds_the_edges(self):
        images, evidence, truth = self.scenes()
        masks = GrabCut(0.02, 0.2, 0.3)(evidence, images)
        assert masks.dtype == torch.bool
        assert torch.equal(masks, truth)
        assert not torch.equal(TopShare(144 / 1024)(evidence) > 0.5, truth)  # the evidence alone does not

    @pytest.mark.parametrize("channels", [1, 3])
    def test_any_normalization(self, channels):
        images, evidence, truth = self.scenes()
        masks = GrabCut(0.02, 0.2, 0.3)(evidence, (images[:, :channels] - 0.5) / 0.2)
        assert torch.equal(masks, truth)

    def test_a_row_does_not_depend_on_its_batch(self):
        noise = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        evidence = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(1))
        together = GrabCut()(evidence, noise)
        one_by_one = [GrabCut()(e[None], x[None]) for x, e in zip(noise, evidence, strict=True)]
        assert torch.equal(together, torch.cat(one_by_one))

    def test_threads_cut_the_same(self):
        images, evidence, _ = self.scenes(8)
        images += 0.2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(2))
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = GrabCut()(evidence, images)
            torch.set_num_threads(4)
            assert torch.equal(GrabCut()(evidence, images), alone)
        finally:
            torch.set_num_threads(threads)

    def test_seeds_hold(self):
        images, evidence, _ = self.scenes()
        order = evidence.flatten(1).argsort(dim=1, descending=True, stable=True)
        masks = GrabCut(0.05, 0.3, 0.4)(evidence, images).flatten(1)
        assert masks.gather(1, order[:, :51]).all()
        assert not masks.gather(1, order[:, -410:]).any()

    def test_constant_images_and_evidence(self):
        masks = GrabCut()(torch.zeros(1, 1, 16, 16), torch.full((1, 3, 16, 16), 0.5))
        assert 26 <= masks.sum() <= 205  # what is sure to be the object at least, what is sure to be background not

    def test_of_a_network(self, shapes):
        config = SIBConfig.recommended("self", layers={"features.3": 1.0, "features.12": 1.0})
        assert config.masks == Frozen(GrabCut(), "class-evidence", "features.3")
        net = TinyCNN(8, width=8).eval()
        masks = self_masks(net, shapes, config=config)
        images = torch.stack([shapes[i].image for i in range(4)])
        assert torch.equal(evidence_masks(net, images, config), masks[:4])

    def test_of_many_bands_the_first_three_are_the_colors(self):
        evidence, images = torch.rand(2, 1, 16, 16), torch.rand(2, 5, 16, 16)
        images[:, 3:] = images[:, :2]  # the range stays
        assert torch.equal(GrabCut()(evidence, images), GrabCut()(evidence, images[:, :3]))
        assert GrabCut()(evidence, images[:, :2]).shape == (2, 1, 16, 16)

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"sure": 0.0}, "sure"),
            ({"sure": 0.5}, "sure"),
            ({"likely": 1.0}, "likely"),
            ({"background": 0.0}, "background"),
            ({"background": 0.7}, "background"),
            ({"rounds": 0}, "rounds"),
        ],
    )
    def test_wrong_fields(self, fields, name):
        with pytest.raises(ValueError, match=name):
            GrabCut(**fields)

    def test_not_online(self):
        with pytest.raises(ValueError, match=r"`rule` must look at the evidence alone .*GrabCut"):
            Online(GrabCut(), detach=True)
