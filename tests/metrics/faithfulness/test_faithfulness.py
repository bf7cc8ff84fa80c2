"""IROF, sensitivity-n, infidelity and max-sensitivity: the slow forms, ranges, chance, ties, undefined cases, costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.images import IMAGENET
from sibx.metrics import METRICS, infidelity, irof, max_sensitivity, sensitivity_n, superpixels
from tests.references import TWINS

SIDE, CLASSES, ROWS = 8, 3, 3
TARGETS = torch.tensor([0, 2, 1])
SEEDS = st.integers(0, 10_000)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = normal(7, 3, SIDE, SIDE, CLASSES) / 4


def linear(images):
    return (images.unsqueeze(-1) * WEIGHTS).sum((1, 2, 3))


def curved(images):
    """A classifier on which what a pixel is worth depends on the others."""
    return linear(images) + linear(images.roll(1, 3) * images) ** 2


class Watching:
    """A model that remembers what it was shown."""

    def __init__(self, model=curved):
        self.model, self.shown = model, []

    def __call__(self, images):
        self.shown.append(images.clone())
        return self.model(images)

    def frames(self):
        return torch.cat(self.shown)


def random_case(seed):
    """Images without a zero, so that a pixel that was replaced by the mean shows; signed attributions; targets."""
    return normal(seed, ROWS, 3, SIDE, SIDE), normal(seed + 1, ROWS, 1, SIDE, SIDE), TARGETS


def quarters(rows=ROWS):
    """Sixteen segments of four pixels, in another order than their places', with gaps between their numbers."""
    blocks = torch.randperm(16, generator=torch.Generator().manual_seed(0)) * 3
    return blocks.view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(rows, -1, -1, -1)


def worth(images, targets):
    """What every pixel adds to the logit of a linear model."""
    return (images * WEIGHTS[..., targets].movedim(3, 0)).sum(1, keepdim=True)


def explain(images, targets):
    return worth(images, targets).abs()


def gone(frame, image):
    """Pixels (y, x) that are replaced by zeros."""
    lost = (frame != image).all(0)
    assert torch.equal(frame, image.masked_fill(lost, 0))
    return [tuple(place) for place in lost.nonzero().tolist()]


def of_one_image(score):
    """The reference's view of a model: a function of one image (C, H, W)."""
    return lambda x: score(torch.from_numpy(x)[None]).item()


SCORES = {
    "irof": lambda x, a, t, **o: irof(curved, x, a.abs(), t, quarters(len(x)), **o),
    "sensitivity_n": lambda x, a, t, **o: sensitivity_n(curved, x, a, t, subsets=10, **o).score,
    "infidelity": lambda x, a, t, **o: infidelity(curved, x, a, t, samples=25, **o),
    "max_sensitivity": lambda x, a, t, **o: max_sensitivity(explain, x, a.abs(), t, samples=4, **o),
}


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_rows_do_not_depend_on_the_batch(name, seed):
    images, attributions, targets = random_case(seed)
    values = SCORES[name](images, attributions, targets)
    assert values.shape == (ROWS,)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    low, high = METRICS[name].bounds
    assert ((low <= values) & (values <= high)).all()
    assert torch.allclose(SCORES[name](images.flip(0), attributions.flip(0), targets.flip(0)), values.flip(0))
    alone = [SCORES[name](images[i : i + 1], attributions[i : i + 1], targets[i : i + 1]) for i in range(ROWS)]
    assert torch.allclose(torch.cat(alone), values)
    for size in (1, 3):
        assert torch.allclose(SCORES[name](images, attributions, targets, batch_size=size), values)


@pytest.mark.parametrize("name", ["sensitivity_n", "infidelity", "max_sensitivity"])
def test_the_seed_and_the_image_choose(name):
    images, attributions, targets = (part.repeat_interleave(2, 0) for part in random_case(3))
    values = SCORES[name](images, attributions, targets)
    assert torch.equal(values[::2], values[1::2])
    assert not torch.allclose(SCORES[name](images, attributions, targets, seed=1), values)
    assert torch.equal(SCORES[name](images, attributions, targets), values)


@pytest.mark.parametrize("name", ["irof", "sensitivity_n", "infidelity"])
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-20, 1e20) | st.sampled_from([1e-300, 1e300]))
def test_the_scale_of_a_map_does_not_count(name, seed, scale):
    images, attributions, targets = random_case(seed)
    values = SCORES[name](images, attributions, targets)
    assert torch.allclose(SCORES[name](images, attributions * scale, targets), values)


@pytest.mark.parametrize("name", SCORES)
def test_undefined_maps_are_nan(name):
    images, attributions, targets = (torch.cat([part, part[:2]]) for part in random_case(0))
    attributions[0] = 0
    attributions[1, 0, 2, 2], attributions[2, 0, 3, 3] = torch.nan, torch.inf
    images[3, 0, 0, 0] = torch.nan
    assert SCORES[name](images, attributions, targets).isnan().tolist() == [True] * 4 + [False]


SHARED_ERRORS = [
    ({"images": torch.zeros(ROWS, SIDE, SIDE)}, r"`images` must be a floating-point tensor of shape \(B, C, H, W\)"),
    ({"maps": torch.zeros(ROWS, 3, SIDE, SIDE)}, "`(heatmaps|attributions)` must be a floating-point tensor of shape"),
    ({"maps": torch.zeros(ROWS, 1, 5, SIDE)}, r"`(heatmaps|attributions)` must be of size \(8, 8\), but got a float32"),
    ({"maps": torch.zeros(2, 1, SIDE, SIDE)}, "`(heatmaps|attributions)` must have 3 rows, one per image"),
    ({"targets": TARGETS[:2]}, "`targets` must have 3 rows, one per image"),
    ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("change", "message"), SHARED_ERRORS)
def test_errors(name, change, message):
    images, attributions, targets = random_case(0)
    case = {"images": images, "maps": attributions, "targets": targets, "batch_size": 4, **change}
    with pytest.raises(ValueError, match=message):
        SCORES[name](case["images"], case["maps"], case["targets"], batch_size=case["batch_size"])


@pytest.mark.parametrize("score", [sensitivity_n, infidelity])
def test_errors_of_the_model(score):
    images, attributions, targets = random_case(0)
    with pytest.raises(ValueError, match=r"`targets` must lie in 0..2, the model's classes"):
        score(curved, images, attributions, targets + 1)
    with pytest.raises(ValueError, match=r"`model` must return logits of shape \(B, K\)"):
        score(lambda x: x, images, attributions, targets)
    with pytest.raises(ValueError, match="`baseline` must be one of mean, black, blur, noise, but got 'white'"):
        score(curved, images, attributions, targets, baseline="white")


class TestIROF:
    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS)
    def test_is_the_definition(self, seed):
        images, heatmaps, targets = random_case(seed)
        heatmaps, black = heatmaps.abs(), IMAGENET(torch.zeros_like(images))
        for baseline, empty in (("mean", torch.zeros_like(images)), ("black", black)):
            options = {"baseline": baseline, "normalization": IMAGENET}
            found = irof(curved, images, heatmaps, targets, quarters(), **options)
            for i, target in enumerate(targets):
                output = of_one_image(lambda x, t=target: curved(x).softmax(1)[0, t])
                arrays = (part[i].numpy() for part in (images, heatmaps[:, 0], quarters()[:, 0], empty))
                assert found[i].item() == pytest.approx(TWINS[irof](output, *arrays))

    def test_equal_segments_go_at_random(self):
        """A flat map of a value that sums do not keep exactly; segments of different sizes."""
        model, segments = Watching(), (torch.arange(64).view(1, 1, SIDE, SIDE).sqrt() * 2.9).long()
        image = normal(0, 1, 3, SIDE, SIDE)
        for seed in range(30):
            irof(model, image, torch.full((1, 1, SIDE, SIDE), 0.1), TARGETS[:1], segments, seed=seed)
        lost = (model.frames() == 0).all(1).flatten(1).view(30, -1, 64)  # as many frames as segments, and one
        label = segments.unique(return_inverse=True)[1].flatten()
        sizes = label.bincount()
        assert lost.shape[1] == len(sizes) + 1
        steps = torch.stack([(~lost[:, :, (label == s).nonzero()[0, 0]]).sum(1) for s in range(len(sizes))], 1).double()
        assert all(steps[0].tolist() != row.tolist() for row in steps[1:])
        rank = steps.mean(0)
        assert abs(np.corrcoef(rank, sizes)[0, 1]) < 0.5
        assert abs(np.corrcoef(rank, np.arange(len(sizes)))[0, 1]) < 0.5

    def test_a_model_that_sees_nothing_scores_zero(self):
        images, heatmaps, targets = random_case(0)
        few = torch.zeros_like(quarters())
        few[..., :3] = 5
        for segments in (quarters(), few, torch.zeros_like(few)):
            found = irof(lambda x: torch.zeros(len(x), 3), images, heatmaps.abs(), targets, segments)
            assert found.tolist() == pytest.approx([0] * ROWS)

    def test_perfect_inverse_and_flat_maps(self):
        """Evidence in one segment of sixteen: removing it first leaves p = 1/2, removing it last p_0 until the end."""

        def corner(images):
            return torch.stack([images[:, :, :2, :2].mean((1, 2, 3)) * 4, torch.zeros(len(images))], 1).double()

        images, targets, p0 = torch.ones(1, 3, SIDE, SIDE), torch.tensor([0]), 1 / (1 + np.exp(-4))
        heatmaps = torch.full((1, 1, SIDE, SIDE), 0.1)
        heatmaps[..., :2, :2] = 1
        perfect = 1 - (0.5 / p0 * 15.5 + 0.5) / 16
        inverse = 1 - (15.5 + 0.5 * 0.5 / p0) / 16
        found = [irof(corner, images, a, targets, quarters(1)).item() for a in (heatmaps, 1.1 - heatmaps)]
        assert found == pytest.approx([perfect, inverse])
        flat = torch.ones_like(heatmaps)
        chance = [irof(corner, images, flat, targets, quarters(1), seed=seed).item() for seed in range(200)]
        assert np.mean(chance) == pytest.approx((perfect + inverse) / 2, abs=0.03)

    def test_no_probability_to_lose(self):
        def sure(images):
            return torch.tensor([[0.0, 1e4, 0.0]]).expand(len(images), -1)

        images, heatmaps, _ = random_case(0)
        assert irof(sure, images, heatmaps.abs(), TARGETS, quarters()).isnan().tolist() == [True, True, False]

    def test_cost(self):
        images, heatmaps, targets = random_case(0)
        segments = quarters().clone()
        segments[1, ..., :4] = 100
        model = Watching()
        irof(model, images, heatmaps.abs(), targets, segments, batch_size=8)
        assert [len(x) for x in model.shown] == [8] * 5 + [17 + 10 + 17 - 40]

    @pytest.mark.parametrize(
        "segments", [torch.zeros(ROWS, 1, SIDE, SIDE), quarters() > 3, quarters()[:, 0], quarters()[:2], [0]]
    )
    def test_errors(self, segments):
        images, heatmaps, targets = random_case(0)
        with pytest.raises(ValueError, match=r"`segments` must be an integer tensor of shape \(3, 1, 8, 8\), but got"):
            irof(curved, images, heatmaps.abs(), targets, segments)


class TestSuperpixels:
    @pytest.mark.parametrize("normalization", [None, IMAGENET])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_follow_colors(self, channels, normalization):
        """Four flat quarters: no segment crosses from one to another."""
        if normalization:
            normalization = replace(normalization, mean=(0.4,) * channels, std=(0.2,) * channels)
        levels = torch.tensor([[0.0, 0.4], [0.7, 1.0]]).repeat_interleave(16, 0).repeat_interleave(16, 1)
        pixels = levels.expand(2, channels, 32, 32)
        segments = superpixels(normalization(pixels) if normalization else pixels, normalization, count=16)
        assert segments.shape == (2, 1, 32, 32)
        assert segments.dtype == torch.int64
        assert torch.equal(segments[0], segments[1])
        numbers = segments[0].unique()
        assert numbers.tolist() == list(range(len(numbers)))
        assert 8 <= len(numbers) <= 24
        assert all(len(levels[segments[0, 0] == s].unique()) == 1 for s in numbers)

    def test_rows_do_not_depend_on_the_batch(self, images):
        pixels = torch.nn.functional.avg_pool2d(images.sigmoid(), 5, 1, 2)
        assert torch.equal(torch.cat([superpixels(x) for x in pixels.split(1)]), superpixels(pixels))
        assert len({len(superpixels(pixels, count=count).unique()) for count in (4, 16, 64)}) == 3

    def test_undefined_images_and_errors(self, images):
        images[0, 0, 3, 3], images[1, 1, 2, 2] = torch.nan, torch.inf
        assert superpixels(images).shape == (4, 1, 32, 32)
        with pytest.raises(ValueError, match="`count` must be at least 1"):
            superpixels(images, count=0)
        with pytest.raises(ValueError, match="`images` must be a floating-point tensor"):
            superpixels(images[0])


class TestSensitivityN:
    @settings(max_examples=15, deadline=None)
    @given(seed=SEEDS)
    def test_is_the_definition(self, seed):
        images, attributions, targets = random_case(seed)
        model = Watching()
        found = sensitivity_n(model, images, attributions, targets, fractions=(0.001, 0.1, 0.75), subsets=6, seed=seed)
        assert found.fractions.tolist() == [1 / 64, 6 / 64, 48 / 64]
        frames = model.frames().view(ROWS, 6, 3, *images.shape[1:])
        for i, target in enumerate(targets):
            output = of_one_image(lambda x, t=target: curved(x)[0, t])
            for k, size in enumerate((1, 6, 48)):
                sets = [gone(frame, images[i]) for frame in frames[i, :, k]]
                assert [len(pixels) for pixels in sets] == [size] * 6
                arrays = (part[i].numpy() for part in (images, attributions[:, 0], torch.zeros_like(images)))
                expected = TWINS[sensitivity_n](output, *arrays, sets)
                assert found.correlations[i, k].item() == pytest.approx(expected)
        assert torch.allclose(found.score, found.correlations.mean(1))

    def test_sets_are_random(self):
        """Every pixel is as likely in every set, and no set of a size comes twice."""
        model = Watching()
        sensitivity_n(model, *(part[:1] for part in random_case(0)), fractions=(0.25,), subsets=400)
        lost = (model.frames() == 0).all(1).flatten(1)
        assert len(lost.unique(dim=0)) == 400
        assert (lost.double().mean(0) - 0.25).abs().max() < 0.1

    def test_perfect_inverse_flat_and_random_maps(self):
        images, _, targets = random_case(5)
        perfect = worth(images, targets)
        assert torch.allclose(
            sensitivity_n(linear, images, perfect, targets).correlations, torch.ones(ROWS, 3).double()
        )
        assert sensitivity_n(linear, images, -3 * perfect, targets).score.tolist() == pytest.approx([-1] * ROWS)
        assert sensitivity_n(linear, images, torch.full_like(perfect, 0.1), targets).score.isnan().all()
        assert sensitivity_n(lambda x: linear(x) * 0, images, perfect, targets).score.isnan().all()
        maps = (normal(seed, *perfect.shape) for seed in range(40))
        noise = [sensitivity_n(linear, images, a, targets, fractions=(0.2,), subsets=20).score for a in maps]
        assert torch.cat(noise).mean().abs() < 0.1

    def test_cost(self):
        model = Watching()
        sensitivity_n(model, *random_case(0), batch_size=100)
        assert [len(x) for x in model.shown] == [100] * 9

    @pytest.mark.parametrize("fractions", [(), (0, 0.5), (0.5, 0.2), (0.5, 1)])
    def test_errors(self, fractions):
        with pytest.raises(ValueError, match="`fractions` must ascend between 0 and 1, but got"):
            sensitivity_n(curved, *random_case(0), fractions=fractions)
        with pytest.raises(ValueError, match="`subsets` must be at least 2"):
            sensitivity_n(curved, *random_case(0), subsets=1)

    def test_the_table_sees_signs_and_keeps_the_correlations(self, explained):
        signed = replace(explained, attributions=explained.heatmaps - 0.5)
        score, plain = METRICS["sensitivity_n"].score(signed), METRICS["sensitivity_n"].score(explained)
        assert torch.allclose(score, plain)  # all sets of n pixels lose the same
        fractions, correlations = signed.curves["sensitivity_n"]
        assert fractions.tolist() == [51 / 1024, 205 / 1024, 819 / 1024]
        assert torch.equal(correlations.mean(1), score)
        upside_down = replace(explained, attributions=-explained.heatmaps)
        assert torch.allclose(METRICS["sensitivity_n"].score(upside_down), -plain)


class TestInfidelity:
    @settings(max_examples=15, deadline=None)
    @given(seed=SEEDS, samples=st.sampled_from([1, 7, 20, 45]))
    def test_is_the_definition(self, seed, samples):
        images, attributions, targets = random_case(seed)
        model = Watching()
        found = infidelity(model, images, attributions, targets, samples=samples, seed=seed)
        removed = [gone(frame, image) for image, frame in self.changed(model, images, samples)]
        for i, target in enumerate(targets):
            output = of_one_image(lambda x, t=target: curved(x)[0, t])
            arrays = (part[i].numpy() for part in (images, attributions[:, 0], torch.zeros_like(images)))
            expected = TWINS[infidelity](output, *arrays, removed[i * samples : (i + 1) * samples])
            assert found[i].item() == pytest.approx(expected, abs=1e-12)

    @staticmethod
    def changed(model, images, samples):
        """What the model was shown, less the images themselves, which captum asks for beside every 20 squares."""
        frames = [x for x in model.frames() if not any(torch.equal(x, image) for image in images)]
        assert len(frames) == ROWS * samples
        return zip(images.repeat_interleave(samples, 0), frames, strict=True)

    def test_squares(self):
        """Sides of 1 to 10 of 28 pixels, everywhere."""
        image, model = normal(0, 1, 3, 28, 40).repeat(ROWS, 1, 1, 1), Watching(lambda x: x.mean((2, 3)))
        infidelity(model, image, torch.ones(ROWS, 1, 28, 40), TARGETS, samples=500)
        places = [torch.tensor(gone(frame, i)) for i, frame in self.changed(model, image, 500)]
        sides = [(p.amax(0) - p.amin(0) + 1).tolist() for p in places]
        assert all(
            height == width and height * width == len(p) for (height, width), p in zip(sides, places, strict=True)
        )
        counts = np.bincount([height for height, _ in sides])[1:]
        assert len(counts) == 10
        assert counts.min() > 90
        assert torch.cat(places).amin(0).tolist() == [0, 0]
        assert torch.cat(places).amax(0).tolist() == [27, 39]

    def test_perfect_inverse_and_flat_maps(self):
        images, attributions, targets = random_case(5)
        perfect = worth(images, targets)
        for best in (perfect, -3 * perfect):
            assert infidelity(linear, images, best, targets).tolist() == pytest.approx([0] * ROWS, abs=1e-10)
        assert (infidelity(linear, images, attributions, targets) > 1e-3).all()
        flat = torch.ones_like(perfect)  # the best for images whose pixels are all worth the same
        even = 1 / WEIGHTS[..., targets].movedim(3, 0).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        assert infidelity(linear, even, flat, targets).tolist() == pytest.approx([0] * ROWS, abs=1e-10)
        assert (infidelity(lambda x: linear(x) * 0, images, attributions, targets) == 0).all()

    def test_no_map_is_worse_than_none(self):
        """beta = 0 leaves the mean square of what the squares are worth."""
        images, attributions, targets = random_case(2)
        model = Watching()
        found = infidelity(model, images, attributions, targets, samples=45)
        falls = [
            (curved(image[None]) - curved(frame[None]))[0, targets[n // 45]].item()
            for n, (image, frame) in enumerate(self.changed(model, images, 45))
        ]
        assert (found <= torch.tensor(falls).view(ROWS, 45).square().mean(1)).all()

    def test_cost(self):
        model = Watching()
        infidelity(model, *random_case(0), samples=50, batch_size=16)
        assert [len(x) for x in model.shown] == ROWS * [16, 4, 1, 16, 4, 1, 10, 1]

    def test_errors(self):
        with pytest.raises(ValueError, match="`samples` must be at least 1"):
            infidelity(curved, *random_case(0), samples=0)


class TestMaxSensitivity:
    @settings(max_examples=15, deadline=None)
    @given(seed=SEEDS, radius=st.floats(1e-3, 1))
    def test_is_the_definition(self, seed, radius):
        images, _, targets = random_case(seed)
        heatmaps, seen = explain(images, targets), []

        def watched(x, t):
            seen.extend(zip(x, t, strict=True))
            return explain(x, t)

        found = max_sensitivity(watched, images, heatmaps, targets, radius=radius, samples=5, batch_size=2)
        assert len(seen) == ROWS * 5
        for i, image in enumerate(images):
            neighbors = seen[i * 5 : (i + 1) * 5]
            moves = torch.stack([y - image for y, _ in neighbors]).abs()
            assert radius * 0.98 < moves.max() <= radius
            assert [t.item() for _, t in neighbors] == [targets[i].item()] * 5
            expected = TWINS[max_sensitivity](
                lambda y, t=targets[i]: explain(y[None], t[None])[0, 0].numpy(),
                heatmaps[i, 0].numpy(),
                [y for y, _ in neighbors],
            )
            assert found[i].item() == pytest.approx(expected)
        assert torch.allclose(
            max_sensitivity(
                lambda x, t: explain(x, t) * 1e20, images, heatmaps * 1e20, targets, radius=radius, samples=5
            ),
            found,
        )

    def test_maps_that_stay_go_silent_or_break(self):
        images, heatmaps, targets = random_case(0)
        heatmaps = heatmaps.abs()
        assert max_sensitivity(lambda x, _: heatmaps[:1].expand(len(x), -1, -1, -1), images, heatmaps, targets)[0] == 0
        found = max_sensitivity(lambda x, _: torch.zeros_like(x[:, :1]), images, heatmaps, targets)
        assert found.tolist() == pytest.approx([1] * ROWS)
        for value in (torch.nan, torch.inf):
            odd = [torch.full_like(images[:4, :1], value), torch.zeros_like(images[:, :1])]
            once = iter(odd * 20)
            assert (
                max_sensitivity(
                    lambda x, _, answers=once: next(answers)[:1], images, heatmaps, targets, samples=4, batch_size=1
                )
                .isnan()
                .all()
            )

    def test_explanations_may_take_gradients(self, explained):
        """captum asks for them without."""

        def gradient(images, targets):
            images = images.detach().requires_grad_()
            picked = explained.model(images).gather(1, targets[:, None]).sum()
            return torch.autograd.grad(picked, images)[0].abs().amax(1, keepdim=True)

        heatmaps = gradient(explained.images, explained.targets)
        found = max_sensitivity(gradient, explained.images, heatmaps, explained.targets)
        assert (found > 0).all()

    def test_errors(self):
        images, heatmaps, targets = random_case(0)
        with pytest.raises(ValueError, match="`radius` must be above 0, but got 0"):
            max_sensitivity(explain, images, heatmaps.abs(), targets, radius=0)
        with pytest.raises(ValueError, match="`samples` must be at least 1"):
            max_sensitivity(explain, images, heatmaps.abs(), targets, samples=0)
        with pytest.raises(ValueError, match=r"`explain` must return floating-point heatmaps of shape \(10, 1, 8, 8\)"):
            max_sensitivity(lambda x, _: x, images, heatmaps.abs(), targets)

    def test_the_table_needs_a_function(self, explained):
        with pytest.raises(ValueError, match="`explain` must be given for a metric that explains again"):
            METRICS["max_sensitivity"].score(replace(explained, explain=None))
