"""Sanity checks: parameters drawn again, layer by layer; smooth and efficient forms; another class explained."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import VisionTransformer

from sibx.metrics import (
    complexity_rise,
    histogram_entropy,
    random_logit,
    randomization,
    smooth_randomization,
    smoothed,
    spearman,
    ssim,
)
from sibx.models import layers_inside, parameter_layers, redraw
from tests.conftest import explain_with
from tests.references import TWINS
from tests.references import randomization as reference

TARGETS = torch.tensor([0, 1, 4, 2])


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def heatmaps(model, images):
    return explain_with(model)(images, TARGETS)


class Backward(nn.Module):
    """Lists its layers in another order than it runs them, holds a parameter itself, and runs one layer twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 5)
        self.twice = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.stem = nn.Conv2d(3, 6, 3)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]))

    def forward(self, images):
        features = self.stem(images * self.scale.view(3, 1, 1))
        return self.head(self.twice(self.twice(features)).mean((2, 3)))


class TestLayers:
    def test_in_the_order_in_which_they_run(self, images):
        model = Backward().train()
        assert parameter_layers(model, images) == ["", "stem", "twice.0", "head"]
        assert model.training
        assert not any(m._forward_pre_hooks for m in model.modules())

    def test_parts_that_never_run_themselves(self):
        """The output projection of an attention, and the class token and position embedding of a transformer."""
        vit = VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3)
        names = parameter_layers(vit, torch.zeros(1, 3, 16, 16))
        block = "encoder.layers.encoder_layer_0"
        attention = names.index(f"{block}.self_attention")
        assert names[:3] == ["", "conv_proj", "encoder"]
        assert names[attention - 1 : attention + 3] == [
            f"{block}.ln_1",
            f"{block}.self_attention",
            f"{block}.self_attention.out_proj",
            f"{block}.ln_2",
        ]
        assert names[-1] == "heads.head"
        assert len(names) == len(layers_inside(vit, ""))

    def test_hooks_go_when_the_model_fails(self):
        model = Backward()
        with pytest.raises(RuntimeError):
            parameter_layers(model, torch.zeros(1, 2, 8, 8))
        assert not any(m._forward_pre_hooks for m in model.modules())

    def test_inside(self):
        model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), nn.Linear(2, 2))
        assert layers_inside(model, "") == ["0.0", "0.2", "1"]
        assert layers_inside(model, "0") == ["0.0", "0.2"]
        assert layers_inside(model, "0.1") == []
        with pytest.raises(ValueError, match=r"`layers` must be one of .*, but got '0.3'"):
            layers_inside(model, "0.3")


class TestRedraw:
    def test_what_is_named_and_nothing_else(self, model):
        before = state(model)
        redraw(model, ["features.3", "features.4", "features.5"])
        changed = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
        assert changed == {"features.4.weight"}  # pooling has no parameters, and the normalization is new already
        model.features[5].running_mean += 1
        redraw(model, ["features.5"])
        assert not model.features[5].running_mean.any()

    def test_depends_on_seed_and_name_only(self, model):
        other = copy.deepcopy(model)
        torch.manual_seed(5)
        following = torch.rand(3)
        torch.manual_seed(5)
        redraw(model, layers_inside(model, ""), seed=1)
        assert torch.equal(torch.rand(3), following)  # the global random state is as it was
        redraw(other, layers_inside(other, "")[::-1], seed=1)
        assert same(state(model), state(other))
        redraw(other, ["classifier"], seed=2)
        assert not torch.equal(model.classifier.weight, other.classifier.weight)

    def test_layers_of_one_shape_differ(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        redraw(model, ["0", "1"])
        assert not torch.equal(model[0].weight, model[1].weight)

    def test_modules_without_an_initialization_keep_mean_and_spread(self):
        model = nn.Module()
        model.wide = nn.Parameter(3 + 2 * torch.randn(20_000, generator=torch.Generator().manual_seed(0)))
        model.constant = nn.Parameter(torch.full((5,), 1e-6))
        before = model.wide.detach().clone()
        redraw(model, [""])
        assert model.wide.mean().item() == pytest.approx(3, abs=0.05)
        assert model.wide.std().item() == pytest.approx(2, abs=0.05)
        assert abs(np.corrcoef(before, model.wide.detach())[0, 1]) < 0.03
        assert torch.allclose(model.constant, torch.full((5,), 1e-6))
        assert model.wide.requires_grad


class TestRandomization:
    @pytest.mark.parametrize("order", ["cascading", "independent"])
    @pytest.mark.parametrize(("similarity", "fast"), [("spearman", spearman), ("ssim", ssim)])
    def test_is_the_definition(self, model, images, heatmaps, order, similarity, fast):
        layers = ["classifier", "features.7", "features.0"]
        found = randomization(
            model, explain_with, images, heatmaps, TARGETS, order=order, layers=layers, similarity=similarity, seed=3
        )
        assert found.layers == tuple((name,) for name in layers)
        assert found.fractions.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
        shape = (lambda m: m.double().numpy()) if similarity == "ssim" else (lambda m: m.flatten().tolist())
        networks = list(reference.randomized_models(model, layers, lambda m, name: redraw(m, [name], 3), order))
        for i in range(4):
            similarities, score = TWINS[randomization](
                lambda a, b: TWINS[fast](shape(a), shape(b)),
                lambda network, i=i: explain_with(network)(images, TARGETS)[i, 0],
                heatmaps[i, 0],
                networks,
            )
            assert found.similarities[i, 1:].tolist() == pytest.approx(similarities)
            assert found.score[i].item() == pytest.approx(score)
        assert torch.allclose(found.similarities[:, 0], torch.ones(4, dtype=torch.float64))

    def test_the_users_model_stays(self, model, images, heatmaps):
        model.train()
        before, flags = state(model), [m.training for m in model.modules()]
        seen = []

        def watch(network):
            seen.append(network)
            return explain_with(network)

        randomization(model, watch, images, heatmaps, TARGETS)
        complexity_rise(model, watch, images, heatmaps, TARGETS)
        smooth_randomization(model, explain_with, images, TARGETS, samples=1, stages=1)
        assert same(state(model), before)
        assert [m.training for m in model.modules()] == flags
        assert all(network is not model and not network.training for network in seen)

    def test_layers_go_from_the_head_down(self, model, images, heatmaps):
        found = randomization(model, explain_with, images, heatmaps, TARGETS)
        assert found.layers[0] == ("classifier",)
        assert [name for stage in found.layers for name in stage] == parameter_layers(model, images)[::-1]

    @staticmethod
    def explain_by_stem(model):
        """Explanations that depend on the first layer only."""
        return lambda x, _: (
            torch.nn.functional.conv2d(x, model.features[0].weight, padding=2).abs().sum(1, keepdim=True)
        )

    @pytest.mark.parametrize("order", ["cascading", "independent"])
    def test_a_map_of_one_layer_changes_with_that_layer(self, model, images, order):
        maps = self.explain_by_stem(model)(images, None)
        found = randomization(model, self.explain_by_stem, images, maps, TARGETS, order=order)
        assert torch.allclose(found.similarities[:, :-1], torch.ones(4, 9, dtype=torch.float64))
        assert (found.similarities[:, -1] < 0.9).all()
        top = randomization(
            model, self.explain_by_stem, images, maps, TARGETS, order=order, layers=["features.0", "classifier"]
        )
        assert (top.similarities[:, 1] < 0.9).all()
        assert (top.similarities[:, 2] == (top.similarities[:, 1] if order == "cascading" else 1)).all()

    def test_a_map_of_the_image_alone_scores_one(self, model, images):
        maps = images[:, :1].abs()
        found = randomization(model, lambda _: lambda x, __: x[:, :1].abs(), images, maps, TARGETS)
        assert found.score.tolist() == pytest.approx([1] * 4)

    @pytest.mark.parametrize(("stages", "sizes"), [(1, [9]), (2, [4, 5]), (9, [1] * 9), (20, [1] * 9)])
    def test_stages(self, model, images, heatmaps, stages, sizes):
        """Fewer stages are points of the same cascade."""
        every = randomization(model, explain_with, images, heatmaps, TARGETS)
        found = randomization(model, explain_with, images, heatmaps, TARGETS, stages=stages)
        assert [len(names) for names in found.layers] == sizes
        assert torch.equal(found.similarities, every.similarities[:, [0, *np.cumsum(sizes)]])
        assert torch.equal(found.fractions, every.fractions[[0, *np.cumsum(sizes)]])

    def test_modules_by_name_take_all_that_is_inside(self, model, images, heatmaps):
        found = randomization(model, explain_with, images, heatmaps, TARGETS, layers=["features"])
        assert found.layers == (tuple(layers_inside(model, "features")),)

    def test_rows_do_not_depend_on_the_batch(self, model, images):
        model, images = model.double(), images.double()
        maps = explain_with(model)(images, TARGETS)
        whole = randomization(model, explain_with, images, maps, TARGETS, stages=2).score
        alone = [
            randomization(model, explain_with, images[i : i + 1], maps[i : i + 1], TARGETS[i : i + 1], stages=2).score
            for i in range(4)
        ]
        assert torch.allclose(torch.cat(alone), whole)

    def test_silent_and_undefined_maps(self, model, images, heatmaps):
        heatmaps[0] = 0
        dead = randomization(model, lambda _: lambda x, __: torch.zeros_like(x[:, :1]), images, heatmaps, TARGETS)
        assert dead.score[0].isnan()
        assert dead.score[1:].tolist() == [0] * 3
        broken = randomization(model, lambda _: lambda x, __: x[:, :1] * torch.nan, images, heatmaps, TARGETS)
        assert broken.score.isnan().all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": lambda x: x}, "`model` must be a torch.nn.Module with parameters, but got a function"),
            ({"model": nn.ReLU()}, "`model` must be a torch.nn.Module with parameters, but got a ReLU"),
            ({"order": "bottom"}, "`order` must be one of cascading, independent, but got 'bottom'"),
            ({"similarity": "hog"}, "`similarity` must be one of spearman, ssim, but got 'hog'"),
            ({"layers": []}, r"`layers` must name at least one module, but got \[\]"),
            ({"layers": ["features.1", "features.2"]}, "`layers` must name modules that hold parameters"),
            ({"layers": ["head"]}, "`layers` must be one of .*classifier, but got 'head'"),
            ({"stages": 0}, "`stages` must be at least 1"),
            ({"targets": TARGETS[:2]}, "`targets` must have 4 rows"),
            ({"heatmaps": torch.ones(2, 1, 32, 32)}, "`heatmaps` must have 4 rows"),
            ({"heatmaps": torch.ones(4, 1, 8, 8)}, r"`heatmaps` must be of size \(32, 32\)"),
            ({"images": torch.ones(4, 3)}, "`images` must be a floating-point tensor"),
            ({"explain_with": lambda _: lambda x, __: x}, "`explain_with` must return .* heatmaps of shape"),
        ],
    )
    def test_errors(self, model, images, heatmaps, change, message):
        good = {
            "model": model,
            "explain_with": explain_with,
            "images": images,
            "heatmaps": heatmaps,
            "targets": TARGETS,
        }
        with pytest.raises(ValueError, match=message):
            randomization(**{**good, **change})


class TestSmooth:
    def test_is_the_definition(self, model, images):
        found = smoothed(explain_with(model), samples=3, noise=0.2, seed=4)(images, TARGETS)
        generator = torch.Generator().manual_seed(4)
        draws = [torch.randn(3, 32, 32, generator=generator) for _ in range(3)]

        def explain(image, target):
            return explain_with(model)(image[None], target[None])[0].double()

        for image, target, ours in zip(images, TARGETS, found, strict=True):
            assert ours.numpy() == pytest.approx(TWINS[smoothed](explain, image, target, draws, 0.2).numpy(), rel=1e-4)

    def test_without_noise_it_is_the_plain_test(self, model, images, heatmaps):
        plain = randomization(model, explain_with, images, heatmaps, TARGETS, layers=["classifier"], seed=2)
        smooth = smooth_randomization(
            model, explain_with, images, TARGETS, samples=2, noise=0, layers=["classifier"], seed=2
        )
        assert torch.allclose(smooth.similarities, plain.similarities)

    def test_compares_smoothed_maps(self, model, images):
        found = smooth_randomization(
            model,
            explain_with,
            images,
            TARGETS,
            samples=2,
            order="independent",
            layers=["features.0"],
            similarity="ssim",
        )
        other = copy.deepcopy(model)
        redraw(other, ["features.0"])
        a, b = (smoothed(explain_with(m), samples=2)(images, TARGETS) for m in (model, other))
        assert torch.allclose(found.score, ssim(a, b))

    def test_more_samples_are_closer_to_the_mean(self, images):
        """Explanations that are noise on top of the image: averaging brings the image out."""
        maps = images[:, :1].abs()

        def explain(x, _):
            return (x[:, :1] + 3 * (x[:, 1:2] - images[:, 1:2])).abs()

        few, many = (spearman(smoothed(explain, n)(images, TARGETS), maps).mean() for n in (1, 50))
        assert many > few

    def test_errors(self, model, images):
        with pytest.raises(ValueError, match="`samples` must be at least 1"):
            smoothed(explain_with(model), samples=0)
        with pytest.raises(ValueError, match="`noise` must be at least 0"):
            smoothed(explain_with(model), noise=-1)
        with pytest.raises(ValueError, match="`explain` must return"):
            smoothed(lambda x, _: x)(images, TARGETS)
        with pytest.raises(ValueError, match=r"`model` must be a torch.nn.Module with parameters"):
            smooth_randomization(lambda x: x, explain_with, images, TARGETS)


class TestComplexityRise:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10_000), bins=st.sampled_from([2, 7, 100]), levels=st.sampled_from([None, 4]))
    def test_histogram_entropy_is_the_definition(self, seed, bins, levels):
        maps = torch.rand(3, 1, 9, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        maps = (maps * levels).round() if levels else maps
        found = histogram_entropy(maps, bins)
        expected = [TWINS[histogram_entropy](row, bins) for row in maps.flatten(1).tolist()]
        assert found.tolist() == pytest.approx(expected)
        assert ((found >= 0) & (found <= math.log(bins))).all()
        assert torch.equal(histogram_entropy(maps * 1024, bins), found)
        assert torch.equal(torch.cat([histogram_entropy(m, bins) for m in maps.split(1)]), found)

    def test_histogram_entropy_of_extremes(self):
        maps = torch.zeros(4, 1, 10, 10)
        maps[0] = 3
        maps[1] = torch.arange(100).view(1, 10, 10)
        maps[2, ..., :5] = 1
        maps[3, 0, 0, 0] = torch.inf
        found = histogram_entropy(maps)
        assert found[:3].tolist() == pytest.approx([0, math.log(100), math.log(2)])
        assert found[3].isnan()
        with pytest.raises(ValueError, match="`bins` must be at least 2"):
            histogram_entropy(maps, 1)

    def test_is_the_definition(self, model, images, heatmaps):
        found = complexity_rise(model, explain_with, images, heatmaps, TARGETS, bins=20, seed=5)
        other = copy.deepcopy(model)
        redraw(other, layers_inside(other, ""), seed=5)
        others = explain_with(other)(images, TARGETS)
        rows = zip(*(maps.double().flatten(1).tolist() for maps in (heatmaps, others)), strict=True)
        expected = [TWINS[complexity_rise](before, after, 20) for before, after in rows]
        assert found.tolist() == pytest.approx(expected)

    def test_range(self, model, images):
        ramp = torch.linspace(0, 1, 1024).view(1, 1, 32, 32).expand(4, -1, -1, -1)
        dot = torch.zeros(4, 1, 32, 32)
        dot[..., 3, 3] = 1

        def rise(before, after):
            return complexity_rise(model, lambda _: lambda *__: after, images, before, TARGETS)

        assert rise(ramp, ramp).tolist() == [0] * 4
        assert (rise(dot, ramp) > 1).all()
        assert rise(ramp, torch.zeros_like(dot)).tolist() == [-1] * 4
        assert rise(torch.zeros_like(dot), ramp).isnan().all()
        assert rise(torch.ones_like(dot), ramp).isnan().all()
        assert rise(ramp, dot * torch.nan).isnan().all()


class TestRandomLogit:
    @staticmethod
    def other_classes(model, images, targets, seed=0):
        """The classes that are explained."""
        seen = []
        random_logit(
            model, lambda x, t: seen.append(t) or x[:, :1].abs(), images, images[:, :1].abs(), targets, seed=seed
        )
        return seen[0]

    def test_is_the_similarity_to_another_class(self, model, images, heatmaps):
        others = self.other_classes(model, images, TARGETS)
        assert (others != TARGETS).all()
        explained = explain_with(model)(images, others)
        expected = [
            TWINS[random_logit](lambda other, i=i: explained[i, 0].double().numpy(), heatmaps[i, 0].double().numpy(), c)
            for i, c in enumerate(others.tolist())
        ]
        explain = explain_with(model)
        assert random_logit(model, explain, images, heatmaps, TARGETS).tolist() == pytest.approx(expected)
        ranked = random_logit(model, explain, images, heatmaps, TARGETS, similarity="spearman")
        assert torch.allclose(ranked, spearman(heatmaps, explained))

    def test_every_other_class_is_as_likely(self, model):
        images = torch.randn(2000, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        counts = self.other_classes(model, images, torch.full((2000,), 3)).bincount(minlength=5)
        assert counts[3] == 0
        assert counts[[0, 1, 2, 4]].min() > 420

    def test_the_draw_belongs_to_the_image(self, model, images):
        whole = self.other_classes(model, images.repeat(8, 1, 1, 1), TARGETS.repeat(8))
        alone = [self.other_classes(model, images[i : i + 1], TARGETS[i : i + 1]) for i in range(4)]
        assert torch.equal(whole, torch.cat(alone).repeat(8))
        draws = {tuple(self.other_classes(model, images, TARGETS, seed).tolist()) for seed in range(5)}
        assert len(draws) > 1

    def test_a_map_that_does_not_see_the_class_scores_one(self, model, images):
        maps = images[:, :1].abs()
        assert random_logit(model, lambda x, _: x[:, :1].abs(), images, maps, TARGETS).tolist() == pytest.approx(
            [1] * 4
        )

    def test_errors(self, model, images, heatmaps):
        def run(**change):
            good = {"model": model, "explain": explain_with(model), "images": images, "heatmaps": heatmaps}
            return random_logit(**{**good, "targets": TARGETS, **change})

        for change, message in (
            (
                {"model": lambda x: x.mean((1, 2, 3))[:, None], "output": "raw"},
                "`model` must have at least two classes, but got 1",
            ),
            ({"model": lambda x: x}, r"`model` must return logits of shape \(B, K\)"),
            ({"targets": TARGETS + 1}, r"`targets` must lie in 0..4"),
            ({"targets": TARGETS[:3]}, "`targets` must have 4 rows"),
            ({"explain": lambda *_: None}, "`explain` must return .* but got a NoneType"),
            ({"similarity": "hog"}, "`similarity` must be one of"),
            ({"images": images[0]}, "`images` must be a floating-point tensor"),
        ):
            with pytest.raises(ValueError, match=message):
                run(**change)
