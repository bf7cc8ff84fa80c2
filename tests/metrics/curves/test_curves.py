"""Perturbation curves: what they are, what they share and cost, and the scores that are read from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from sibx.images import IMAGENET, Normalization
from sibx.images.baselines import make_baseline
from sibx.metrics import (
    METRICS,
    Curves,
    Perturbations,
    aopc,
    deletion,
    insertion,
    insertion_minus_deletion,
    lerf,
    normalized_deletion,
    normalized_insertion,
    srg,
)
from sibx.metrics.curves import CURVES
from sibx.metrics.curves._perturbations import perturbations
from sibx.metrics.frames import relevance_order
from sibx.metrics.probability import probability
from tests.references import TWINS
from tests.references import curves as reference

ALL = ((deletion, "mean"), (insertion, "blur"), (lerf, "mean"))


class Counting:
    """A model that remembers the sizes of its passes."""

    def __init__(self, model):
        self.model, self.passes = model, []

    def __call__(self, images):
        self.passes.append(len(images))
        return self.model(images)


@pytest.fixture
def counting(model):
    return Counting(model.double())


@pytest.fixture
def case(counting):
    """A counting model, images, heatmaps of ten values, and targets."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(3, 3, 16, 16, generator=generator, dtype=torch.float64)
    heatmaps = (torch.rand(3, 1, 16, 16, generator=generator) * 10).ceil() / 10
    return counting, images, heatmaps, torch.tensor([1, 4, 0])


def places(seed, pixels):
    """Where a pixel stands in the random order that decides between equal values."""
    return torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).argsort().tolist()


class TestProbability:
    def test_is_the_softmax_of_the_target(self, case):
        counting, images, _, targets = case
        values = probability(counting, images.requires_grad_(), targets, 2)
        expected = counting.model(images).softmax(1)[range(3), targets]
        assert counting.passes == [2, 1]
        assert values.dtype == torch.float64
        assert not values.requires_grad
        assert not values.is_inference()
        assert torch.allclose(values, expected)

    def test_half_precision_logits_are_normalized_in_double(self, images):
        logits = torch.full((4, 3), 20.0, dtype=torch.float16)
        values = probability(lambda x: logits[: len(x)], images, torch.tensor([0, 1, 2, 0]))
        assert torch.allclose(values, torch.full((4,), 1 / 3, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"targets": torch.tensor([0])}, "`targets` must have 3 rows, one per image"),
            ({"targets": torch.tensor([0]), "batch_size": 1}, "`targets` must have 3 rows, one per image"),
            ({"targets": torch.tensor([0, 1, 5])}, "`targets` must lie in 0..4"),
            ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
            ({"model": lambda x: x}, "`model` must return logits of shape"),
        ],
    )
    def test_errors(self, case, change, message):
        model, images, _, targets = case
        with pytest.raises(ValueError, match=message):
            probability(**{"model": model, "images": images, "targets": targets, **change})


class TestOrder:
    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 1000),
        levels=st.sampled_from([1, 3, 1000]),
        dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    )
    def test_is_the_definition(self, seed, levels, dtype):
        """Also of negative values and of -0.0, which equals 0."""
        generator = torch.Generator().manual_seed(seed)
        heatmaps = ((torch.rand(2, 1, 5, 7, generator=generator) - 0.5) * levels).round().to(dtype)
        for heatmap, order in zip(heatmaps, relevance_order(heatmaps, seed), strict=True):
            expected = reference.ordered(heatmap[0].double().numpy(), places(seed, 35))
            assert order.tolist() == [y * 7 + x for y, x in expected]

    def test_ties_are_broken_at_random_not_in_raster_order(self):
        flat = torch.zeros(1, 1, 32, 32)
        order = relevance_order(flat)[0]
        assert abs(np.corrcoef(order, np.arange(1024))[0, 1]) < 0.1
        assert not torch.equal(relevance_order(flat), relevance_order(flat, seed=1))
        assert sorted(order.tolist()) == list(range(1024))


class TestCurves:
    @pytest.mark.parametrize(("score", "baseline"), [*ALL, (deletion, "noise"), (lerf, "black"), (insertion, "mean")])
    @pytest.mark.parametrize(("steps", "batch_size"), [(28, 64), (5, 7), (3, 1), (1, 2)])
    def test_is_the_definition(self, case, score, baseline, steps, batch_size):
        model, images, heatmaps, targets = case
        options = {"baseline": baseline, "normalization": IMAGENET, "batch_size": batch_size, "seed": 5}
        curves = score(*case, steps=steps, **options)
        other = make_baseline(images, baseline, IMAGENET, seed=5)
        for i in range(3):

            def p(frame, i=i):
                return probability(model, torch.from_numpy(frame)[None], targets[i : i + 1]).item()

            order = reference.ordered(heatmaps[i, 0].numpy(), places(5, 256))
            start, end = (other, images) if score is insertion else (images, other)
            turned = order[:: -1 if score is lerf else 1]
            fractions, expected = reference.curve(p, start[i].numpy(), end[i].numpy(), turned, steps)
            assert curves.fractions.numpy() == pytest.approx(fractions)
            assert curves.probabilities[i].numpy() == pytest.approx(expected)
            area = TWINS[score](p, images[i].numpy(), other[i].numpy(), order, steps)
            assert curves.auc[i].item() == pytest.approx(area)

    def test_end_points(self, case):
        model, images, _, targets = case
        clean = probability(model, images, targets)
        for (score, baseline), end in zip(ALL, (0, -1, 0), strict=True):
            curves = score(*case)
            empty = probability(model, make_baseline(images, baseline), targets)
            assert torch.allclose(curves.probabilities[:, end], clean)
            assert torch.allclose(curves.probabilities[:, -1 - end], empty)
            assert curves.fractions[[0, -1]].tolist() == [0, 1]
            assert curves.probabilities.shape == (3, 29)

    def test_lerf_is_insertion_read_backward(self, case):
        least, most = lerf(*case, baseline="blur"), insertion(*case)
        assert torch.equal(least.probabilities, most.probabilities.flip(1))
        assert torch.equal(least.auc, most.auc)

    def test_a_model_that_never_changes_scores_its_probability(self, case):
        for score, _ in ALL:
            curves = score(lambda x: torch.zeros(len(x), 5), *case[1:], steps=4)
            assert torch.allclose(curves.auc, torch.full((3,), 0.2, dtype=torch.float64))

    def test_rows_do_not_depend_on_the_batch(self, case):
        model, *rows = case
        for score, _ in ALL:
            alone = [score(model, *(r[i : i + 1] for r in rows)).auc for i in range(3)]
            assert torch.allclose(score(*case).auc, torch.cat(alone))
            assert torch.allclose(score(model, *(r.flip(0) for r in rows)).auc, score(*case).auc.flip(0))
            assert score(model, *(r[:0] for r in rows)).auc.shape == (0,)

    @pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
    def test_undefined_maps_are_nan(self, case, value):
        case[2][1] = value
        for score, _ in ALL:
            curves = score(*case)
            assert curves.auc.isnan().tolist() == [False, True, False]

    def test_leaves_ordinary_tensors_and_its_arguments(self, case):
        before = [argument.clone() for argument in case[1:]]
        case[1].requires_grad_()
        for part in deletion(*case):
            assert not part.is_inference()
            assert not part.requires_grad
        assert all(torch.equal(a, b) for a, b in zip(case[1:], before, strict=True))

    def test_a_model_may_write_into_its_input(self, case):
        """The first layer of some normalizes in place."""
        model, *rest = case
        expected = model.model

        def greedy(x):
            logits = expected(x)
            x.fill_(torch.nan)
            return logits

        for score, _ in ALL:
            assert torch.equal(score(greedy, *rest).auc, score(expected, *rest).auc)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"baseline": "gray"}, "`baseline` must be one of mean, black, blur, noise, but got 'gray'"),
            ({"baseline": "black"}, "`normalization` must be given for baseline='black'"),
            ({"steps": 0}, r"`steps` must lie in \[1, 256\], but got 0"),
            ({"batch_size": 0}, "`batch_size` must be at least 1"),
            ({"images": torch.ones(3, 16, 16)}, r"`images` must be a floating-point tensor of shape \(B, C, H, W\)"),
            ({"targets": torch.tensor([0, 1])}, "`targets` must have 3 rows"),
            ({"targets": torch.tensor([0, 1, 5])}, r"`targets` must lie in 0..4"),
            ({"heatmaps": torch.ones(3, 1, 8, 8)}, r"`heatmaps` must be of size \(16, 16\)"),
            ({"heatmaps": torch.ones(3, 3, 16, 16)}, r"`heatmaps` must be a floating-point tensor of shape"),
            ({"model": lambda x: x}, "`model` must return logits of shape"),
        ],
    )
    def test_errors(self, case, change, message):
        good = dict(zip(("model", "images", "heatmaps", "targets"), case, strict=True))
        for score, _ in ALL:
            with pytest.raises(ValueError, match=message):
                score(**{**good, **change})


class TestBaselines:
    def test_named(self, case):
        _, images, _, _ = case
        normalization = Normalization((0.5,) * 3, (0.25,) * 3)
        assert not make_baseline(images, "mean").any()
        assert (make_baseline(images, "black", normalization) == -2).all()
        noise = make_baseline(images, "noise", seed=1)
        assert torch.equal(noise[0], noise[1])
        assert not torch.equal(noise, make_baseline(images, "noise", seed=2))
        constant = torch.full((1, 3, 40, 40), 1.7)
        # Reflecting borders: a constant image stays constant up to its edges.
        assert torch.allclose(make_baseline(constant, "blur"), constant, atol=1e-5)

    def test_blur_is_a_gaussian(self):
        delta = torch.zeros(1, 1, 224, 224, dtype=torch.float64)
        delta[..., 112, 112] = 1
        row = make_baseline(delta, "blur")[0, 0, 112]
        assert (row[112 + 5] / row[112]).item() == pytest.approx(np.exp(-0.5), rel=1e-4)
        assert (row[112 + 10] / row[112]).item() == pytest.approx(np.exp(-2), rel=1e-4)

    @pytest.mark.parametrize(("height", "width"), [(64, 64), (24, 80), (3, 100), (1, 1)])
    def test_blur_is_torchvisions(self, height, width):
        """With the kernel cut at 4 sigma, and at what a border can reflect."""
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        sigma = 5 * max(height, width) / 224
        cut = int(np.ceil(4 * sigma))
        size = [2 * min(cut, side - 1) + 1 for side in (width, height)]
        expected = tv.gaussian_blur(images, size, [sigma, sigma])
        assert torch.allclose(make_baseline(images, "blur"), expected)


class TestCost:
    """Every perturbed image goes through the model once, whatever is asked for."""

    @pytest.mark.parametrize("steps", [1, 2, 28])
    def test_one_stream_of_full_passes(self, case, steps):
        model = case[0]
        runs = Perturbations(*case, steps=steps, batch_size=32)
        runs.measure(("deletion", "mean"), ("insertion", "blur"))
        assert sum(model.passes) == 3 * (2 * steps + 1)
        assert set(model.passes[:-1]) <= {32}
        curves = runs.deletion(), runs.insertion(), runs.deletion()
        assert sum(model.passes) == 3 * (2 * steps + 1)
        for ours, score in zip(curves, (deletion, insertion, deletion), strict=True):
            assert torch.allclose(ours.probabilities, score(*case, steps=steps).probabilities)

    def test_same_baseline_shares_both_ends(self, case):
        runs = Perturbations(*case)
        runs.deletion(), runs.lerf(), runs.insertion("mean")
        assert sum(case[0].passes) == 3 * 2 * 28

    def test_one_curve(self, case):
        deletion(*case, batch_size=32)
        assert case[0].passes == [32, 32, 23]

    @pytest.mark.parametrize("names", [tuple(CURVES), tuple(CURVES)[::-1], ("srg", "deletion", "lerf")])
    def test_all_scores_of_the_table(self, explained, names):
        """MoRF and LeRF need 56 images each image, the insertion from the blurred image 28 more, sharpening 13 more."""
        model = Counting(explained.model)
        shared = replace(explained, model=model)
        values = {name: METRICS[name].score(shared) for name in names}
        assert sum(model.passes) == 4 * (56 + 28 * ("insertion" in names) + 13 * ("sic" in names))
        assert len(shared.once(perturbations).clean_probability) == 4
        assert sum(model.passes) == 4 * (56 + 28 * ("insertion" in names) + 13 * ("sic" in names))
        for name, value in values.items():  # what is shared changes nothing
            assert torch.allclose(value, METRICS[name].score(replace(explained)), equal_nan=True), name

    def test_the_clean_images_run_once(self, explained):
        model = Counting(explained.model)
        shared = replace(explained, model=model)
        clean = shared.once(perturbations).clean_probability
        assert model.passes == [4]
        METRICS["deletion"].score(shared)
        assert sum(model.passes) == 4 * 29
        assert torch.equal(shared.curves["deletion"][1][:, 0], clean)


class TestScores:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 1000), levels=st.sampled_from([2, 1000]), steps=st.integers(1, 9))
    def test_are_the_definitions(self, model, seed, levels, steps):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(1, 3, 6, 7, generator=generator, dtype=torch.float64)
        heatmaps = (torch.rand(1, 1, 6, 7, generator=generator) * levels).ceil()
        target, base = torch.tensor([seed % 5]), torch.zeros(3, 6, 7).double().numpy()

        def p(frame):
            return probability(model.double(), torch.from_numpy(frame)[None], target).item()

        order = reference.ordered(heatmaps[0, 0].numpy(), places(0, 42))
        runs = Perturbations(model.double(), images, heatmaps, target, steps=steps)
        image, blurred = images[0].numpy(), make_baseline(images, "blur")[0].numpy()
        for score, curves, baselines in (
            (aopc, [runs.deletion()], [base]),
            (normalized_deletion, [runs.deletion()], [base]),
            (normalized_insertion, [runs.insertion()], [blurred]),
            (insertion_minus_deletion, [runs.insertion(), runs.deletion()], [blurred, base]),
            (srg, [runs.lerf(), runs.deletion()], [base]),
        ):
            if score is srg and any(2 * 42 * k / steps % 2 == 1 for k in range(steps)):
                continue  # half pixels are rounded the other way
            expected = TWINS[score](p, image, *baselines, order, steps)
            assert score(*curves).item() == pytest.approx(expected)

    def test_srg_of_the_reverse_is_the_opposite(self, case):
        model, images, _, targets = case
        heatmaps = torch.randperm(3 * 256, generator=torch.Generator().manual_seed(0)).view(3, 1, 16, 16) + 1.0
        forth = Perturbations(model, images, heatmaps, targets, steps=8)
        back = Perturbations(model, images, 1000 - heatmaps, targets, steps=8)
        gain = srg(forth.lerf(), forth.deletion())
        assert torch.allclose(srg(back.lerf(), back.deletion()), -gain)
        assert torch.allclose(insertion_minus_deletion(forth.insertion("mean"), forth.deletion()), gain)

    def test_a_map_that_knows_what_counts(self):
        """A model that looks at the upper half: MoRF takes it at once, LeRF leaves it to the end."""
        images = torch.ones(2, 1, 8, 8)
        heatmaps = torch.ones(2, 1, 8, 8)
        heatmaps[0, :, :4], heatmaps[1, :, 4:] = 2, 2

        def model(x):
            p = x[:, 0, :4].mean((1, 2)).clamp(1e-12, 1 - 1e-12)  # of the first class
            return torch.stack([p, 1 - p], 1).log()

        runs = Perturbations(model, images, heatmaps, torch.zeros(2, dtype=torch.long), steps=8)
        assert runs.deletion().probabilities[0].tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0], abs=1e-6)
        assert runs.deletion().auc.tolist() == pytest.approx([0.25, 0.75])
        assert runs.lerf().auc.tolist() == pytest.approx([0.75, 0.25])
        assert srg(runs.lerf(), runs.deletion()).tolist() == pytest.approx([0.5, -0.5])
        assert normalized_deletion(runs.deletion()).tolist() == pytest.approx([0.25, 0.75])
        assert aopc(runs.deletion()).tolist() == pytest.approx([6.5 / 9, 2.5 / 9])

    def test_a_flat_map_scores_as_the_random_one(self, case):
        model, images, _, targets = case
        flat = Perturbations(model, images, torch.ones(3, 1, 16, 16), targets)
        order = torch.argsort(relevance_order(torch.ones(1, 1, 16, 16)))
        drawn = Perturbations(model, images, (256.0 - order).view(1, 1, 16, 16).expand(3, -1, -1, -1), targets)
        assert torch.equal(flat.deletion().auc, drawn.deletion().auc)
        gains = [
            srg(runs.lerf(), runs.deletion())
            for runs in (
                Perturbations(model, images, torch.ones(3, 1, 16, 16), targets, steps=4, seed=s) for s in range(30)
            )
        ]
        assert abs(torch.stack(gains).mean().item()) < 3 * torch.stack(gains).std().item() / 90**0.5

    def test_scale_does_not_matter(self, case):
        model, images, heatmaps, targets = case
        for scale in (1e-20, 1e20):
            assert torch.equal(deletion(model, images, heatmaps * scale, targets).auc, deletion(*case).auc)

    def test_undefined_images_are_nan(self, case):
        case[2][1] = 0
        runs = Perturbations(*case)
        gone, come, least = runs.deletion(), runs.insertion(), runs.lerf()
        for values in (
            aopc(gone),
            srg(least, gone),
            normalized_deletion(gone),
            normalized_insertion(come),
            insertion_minus_deletion(come, gone),
        ):
            assert values.isnan().tolist() == [False, True, False]
            assert values.dtype == torch.float64

    def test_a_clean_probability_of_zero_leaves_nothing_to_compare_with(self):
        zero = Curves(torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 0.5]]), torch.tensor([0.25]))
        assert normalized_deletion(zero).isnan().all()
        assert normalized_insertion(zero).tolist() == [0.5]

    @pytest.mark.parametrize(
        ("score", "message"), [(srg, "`lerf` must"), (insertion_minus_deletion, "`insertion` must")]
    )
    def test_curves_of_other_images(self, case, score, message):
        few = deletion(case[0], *(r[:2] for r in case[1:]))
        with pytest.raises(ValueError, match=f"{message} hold 3 images, but got 2"):
            score(few, deletion(*case))
