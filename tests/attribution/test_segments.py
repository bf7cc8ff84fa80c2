"""Attribution to segments: exact Shapley values, linear models on which all agree, forms of segments, two players."""

import itertools
import warnings

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from sibx.attribution import LIME, FeatureAblation, KernelSHAP, ShapleySampling, explain, object_shapley
from sibx.images import IMAGENET, superpixels
from sibx.models import TinyCNN

QUARTERS = torch.arange(4).view(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
KINDS = {
    "lime": lambda model, **o: LIME(model, **{"samples": 16, "ridge": 0} | o),
    "kernel_shap": lambda model, **o: KernelSHAP(model, **{"samples": 16} | o),
    "feature_ablation": FeatureAblation,
    "shapley_sampling": lambda model, **o: ShapleySampling(model, **{"orders": 2} | o),
}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.SiLU(), nn.Linear(6, 3)).eval()
    net[3].weight.data *= 4
    return net


def values(maps):
    """The value of every quarter, (B, 4)."""
    assert all(len(row[QUARTERS[0] == i].unique()) == 1 for row in maps for i in range(4))
    return maps[:, 0, ::4, ::4].flatten(1)


def enumerated(net, image, target):
    """Shapley values from all 24 orders of the four quarters."""
    added = torch.zeros(4)
    for order in itertools.permutations(range(4)):
        kept, before = torch.zeros(8, 8, dtype=torch.bool), net(torch.zeros(1, 3, 8, 8))[0, target]
        for i in order:
            kept = kept | (QUARTERS[0, 0] == i)
            after = net((image * kept)[None])[0, target]
            added[i] += (after - before).detach() / 24
            before = after
    return added


def test_shapley_values_are_the_enumerated_ones(net):
    """Kernel SHAP once all 14 choices have been drawn often; sampled orders at any number sum to the difference."""
    target = [0, 2, 1]
    expected = torch.stack([enumerated(net, x, t) for x, t in zip(IMAGES, target, strict=True)])
    kernel = values(KernelSHAP(net, segments=QUARTERS, samples=400, images_per_pass=64).attribute(IMAGES, target))
    assert torch.allclose(kernel, expected, atol=0.02)
    sampled = values(ShapleySampling(net, segments=QUARTERS, orders=100, images_per_pass=4).attribute(IMAGES, target))
    assert torch.allclose(sampled, expected, atol=0.03)
    assert (expected.amax(1) - expected.amin(1) > 0.1).all()  # what the tolerances are small against
    whole = (net(IMAGES) - net(torch.zeros_like(IMAGES)))[range(3), target]
    for found in (kernel, sampled, values(ShapleySampling(net, segments=QUARTERS, orders=1).attribute(IMAGES, target))):
        assert torch.allclose(found.sum(1), whole, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_all_agree_on_a_linear_model(kind):
    """A segment's value is its part of the sum, whatever the others do; a function is a model, a bias has no place."""
    weights = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = KINDS[kind](lambda x: (x * weights).sum((1, 2, 3)) + 5, segments=QUARTERS).attribute(IMAGES)
    parts = [((IMAGES * weights) * (i == QUARTERS)).sum((1, 2, 3)) for i in range(4)]
    assert torch.allclose(values(found), torch.stack(parts, 1), atol=1e-4)


def test_lime_is_a_weighted_ridge_regression(net):
    """From the choices that it ran, by scikit-learn."""
    seen = []

    def watched(x):
        seen.append(x)
        return net(x)

    found = values(LIME(watched, segments=QUARTERS, samples=40, ridge=2, width=0.3).attribute(IMAGES[:1], 1))
    changed = torch.cat(seen[1:])  # the first pass checks the target
    kept = (changed[:, 0, ::4, ::4] != 0).flatten(1).float()
    counts = torch.exp(-((1 - kept.mean(1).sqrt()) ** 2) / (2 * 0.3**2))
    ridge = Ridge(2).fit(kept, net(changed)[:, 1].detach(), counts)
    assert found[0].tolist() == pytest.approx(ridge.coef_.tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_of_every_form(kind, net):
    """Numbers need not count from 0; a row of its own per image, one for all, or a function."""
    build = KINDS[kind]
    expected = build(net, segments=QUARTERS).attribute(IMAGES, 1)
    for segments in (QUARTERS * 7 - 3, QUARTERS.repeat(3, 1, 1, 1), lambda x: QUARTERS.int().repeat(len(x), 1, 1, 1)):
        assert torch.equal(build(net, segments=segments).attribute(IMAGES, 1), expected)
    several = build(net, segments=torch.cat([QUARTERS, QUARTERS // 2, QUARTERS * 0])).attribute(IMAGES, [1, 0, 2])
    assert several[1].unique().numel() == 2
    one = (net(IMAGES[2:]) - net(torch.zeros(1, 3, 8, 8)))[0, 2]
    assert torch.allclose(several[2], one.expand(1, 8, 8), atol=1e-4) or kind == "lime"
    wrong = (QUARTERS.float(), QUARTERS[..., :4], QUARTERS.repeat(2, 1, 1, 1), lambda x: x)
    for segments in wrong:
        with pytest.raises(ValueError, match=r"`segments` must be an integer tensor of shape \(3, 1, 8, 8\)"):
            build(net, segments=segments).attribute(IMAGES, 1)
    with pytest.raises(ValueError, match="`segments` must be 'slic', an integer tensor or a function"):
        build(net, segments="felzenszwalb")


@pytest.mark.parametrize("kind", KINDS)
def test_one_score_per_row_of_every_shape(kind, net):
    """(B, 1), its column 0, (B,), and a model that squeezes the axis of a single row away."""

    def column(x):
        return net(x)[:, 1:2]

    build = KINDS[kind]
    expected = build(net, segments=QUARTERS).attribute(IMAGES, 1)
    assert expected.shape == (3, 1, 8, 8)
    assert torch.equal(build(column, segments=QUARTERS).attribute(IMAGES, 0), expected)
    for scores in (column, lambda x: net(x)[:, 1], lambda x: column(x).squeeze()):
        for rows in (slice(None), slice(1)):
            found = build(scores, segments=QUARTERS).attribute(IMAGES[rows])
            assert torch.allclose(found, expected[rows], atol=1e-6)
            assert found.shape == expected[rows].shape


def test_slic_sees_the_colors_of_the_image():
    """Of a normalized image, with its normalization or without, the segments are those of the picture."""
    pixels = torch.zeros(1, 3, 32, 32)
    pixels[..., 8:24, 8:24] = 1
    net = TinyCNN(2, width=4).eval()
    for normalization in (IMAGENET, None):
        method = FeatureAblation(net, count=16, normalization=normalization)
        segments = method._segment(IMAGENET(pixels))
        inside = {tuple(pixels[0, 0][segments[0, 0] == i].unique().tolist()) for i in segments.unique()}
        assert inside == {(0,), (1,)}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_slic_divides_noise(channels):
    """Whose pixels of nearly one color do not touch; count 1 is one segment all the same."""
    noise = torch.rand(1, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    assert len(superpixels(noise, count=40).unique()) >= 10
    assert len(superpixels(noise, count=1).unique()) == 1


def test_passes_progress_and_the_generator(net, monkeypatch):
    """As many passes as promised, told to the bar; the caller's random numbers go on as if nothing had been drawn."""
    told, totals = [], []

    class Bar:
        update = staticmethod(told.append)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def bar_over(items, title, *, shown, total):
        totals.append((shown, total))
        return Bar()

    monkeypatch.setattr("sibx.attribution.segmented.bar_over", bar_over)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    for kind, passes in {"lime": 4, "kernel_shap": 4, "feature_ablation": 2, "shapley_sampling": 3}.items():
        told.clear()
        KINDS[kind](net, segments=QUARTERS, images_per_pass=4, progress=True).attribute(IMAGES, 0)
        assert (totals[-1], len(told)) == ((True, 3 * passes), 3 * passes), kind
    assert torch.equal(torch.rand(3), expected)


def test_bounds(net):
    for wrong in (
        {"samples": 0},
        {"width": 0},
        {"ridge": -1},
        {"count": 0},
        {"images_per_pass": 0},
        {"baseline": "red"},
    ):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
            LIME(net, **wrong)
    with pytest.raises(ValueError, match="`samples` must be"):
        KernelSHAP(net, samples=1)
    with pytest.raises(ValueError, match="`orders` must be"):
        ShapleySampling(net, orders=0)
    with pytest.raises(ValueError, match="`inputs` must be one image tensor"):
        LIME(net).attribute((IMAGES, IMAGES), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LIME(net, samples=4, segments=QUARTERS).attribute(IMAGES[:0], 0).shape == (0, 1, 8, 8)


class TestObjectShapley:
    def test_is_kernel_shap_of_two_segments(self, net):
        masks = QUARTERS.expand(3, -1, -1, -1) == 1
        parts, target = object_shapley(net, IMAGES, masks, [0, 2, 1]), [0, 2, 1]
        found = KernelSHAP(net, segments=masks.long(), samples=64).attribute(IMAGES, target)
        assert torch.allclose(parts.object, found[:, 0, 0, -1], atol=1e-4)
        assert torch.allclose(parts.background, found[:, 0, 0, 0], atol=1e-4)
        rest = (net(IMAGES) - net(0 * IMAGES))[range(3), target]
        assert torch.allclose(parts.object + parts.background, rest, atol=1e-5)

    @pytest.mark.parametrize(("model", "interaction"), [("both", 1.0), ("either", -1.0), ("sum", 0.0)])
    def test_interaction(self, model, interaction):
        """Object and background each say yes or no."""
        mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        mask[..., 0] = True

        def net(x):
            front, back = (x[:, 0, :, i].amax(1) > 0 for i in (0, 1))
            return {"both": front & back, "either": front | back, "sum": front.float() + back}[model].float()

        parts = object_shapley(net, torch.ones(1, 1, 2, 2), mask)
        assert parts.interaction.item() == interaction
        assert parts.object == parts.background == (0.5 if model != "sum" else 1)

    def test_train_mode_is_warned_of_and_changes_nothing(self):
        net = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 2))
        before = {k: v.clone() for k, v in net.state_dict().items()}
        with pytest.warns(UserWarning, match="The model is in train mode: with BatchNorm2d"):
            object_shapley(net, IMAGES, QUARTERS.expand(3, -1, -1, -1) == 1, 0)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())

    def test_four_passes_and_errors(self):
        passes = []

        def net(x):
            passes.append(len(x))
            return x.mean((2, 3))

        masks = torch.ones(3, 1, 8, 8, dtype=torch.bool)
        object_shapley(net, IMAGES, masks, 1, baseline="blur")
        assert passes == [3] * 4
        with pytest.raises(ValueError, match="`masks` must be a bool tensor"):
            object_shapley(net, IMAGES, masks.float(), 1)
        with pytest.raises(ValueError, match="`target` must be given"):
            object_shapley(net, IMAGES, masks)
        for target in (True, "all", 0.5, object()):
            with pytest.raises(ValueError, match="`target` must be an integer"):
                object_shapley(net, IMAGES, masks, target)
        for target in ([0, 1], torch.tensor([0, 1])):
            with pytest.raises(ValueError, match="`target` must hold 3 entries, one per image"):
                object_shapley(net, IMAGES, masks, target)
        with pytest.raises(ValueError, match="`target` must be one class per image"):
            object_shapley(net, IMAGES, masks, [[0], [1], [2]])
        with pytest.raises(ValueError, match="`model` must be a module or a function"):
            object_shapley(None, IMAGES, masks)


def test_a_key_of_the_table_takes_a_function():
    net, images = TinyCNN(3, width=4).eval(), torch.rand(1, 3, 16, 16)
    found = explain(lambda x: net(x), images, "feature_ablation", 1)
    assert torch.equal(found, FeatureAblation(net).attribute(images, 1).relu())
