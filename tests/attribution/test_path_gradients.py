"""BlurIG, IDGI, expected gradients on images, squared SmoothGrad and HSIC maps: slow forms, closed forms, sums."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from sibx.attribution import (
    IDGI,
    BlurIG,
    GradientSHAP,
    HSICAttribution,
    SmoothGrad,
    SmoothGradSquared,
    VarGrad,
)

IMAGES = torch.randn(3, 2, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
TARGETS = [1, 0, 2]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(192, 3)).double().eval()


def gradient(net, image, target):
    image = image.clone().requires_grad_()
    score = net(image[None])[0, target]
    return score.item(), torch.autograd.grad(score, image)[0]


class TestBlurIG:
    def test_is_the_sum_along_the_path(self, net):
        """Blurred by SciPy, whose borders are reflected likewise."""
        found = BlurIG(net, steps=4, sigma=20).attribute(IMAGES, TARGETS)
        for row, (image, target) in enumerate(zip(IMAGES, TARGETS, strict=True)):
            sigmas = [20 * 10 / 224 * (1 - k / 4) ** 2 for k in range(5)]
            blurred = [gaussian_filter(image.numpy(), (0, s, s), mode="mirror", radius=(0, 7, 9)) for s in sigmas]
            points = [torch.from_numpy(b) for b in blurred]
            slopes = [gradient(net, p, target)[1] for p in points]
            steps = range(4)
            expected = sum((points[k + 1] - points[k]) * (slopes[k] + slopes[k + 1]) / 2 for k in steps)
            assert torch.allclose(found[row], expected, atol=2e-3)

    def test_sums_to_the_difference(self, net):
        found = BlurIG(net, steps=24).attribute(IMAGES, TARGETS).sum((1, 2, 3))
        start = next(BlurIG(net)._points((IMAGES,)))[0]
        assert torch.allclose(found, (net(IMAGES) - net(start))[range(3), TARGETS].detach(), atol=5e-3)
        assert BlurIG(net, steps=2, sigma=0).attribute(IMAGES, 1).abs().max() == 0


class TestIDGI:
    def test_is_the_papers(self, net):
        found = IDGI(net, steps=3).attribute(IMAGES, TARGETS)
        for row, (image, target) in enumerate(zip(IMAGES, TARGETS, strict=True)):
            points = [gradient(net, image * k / 3, target) for k in range(4)]
            shares = [
                (points[k + 1][0] - points[k][0]) * points[k][1] ** 2 / (points[k][1] ** 2).sum() for k in range(3)
            ]
            assert torch.allclose(found[row], sum(shares), atol=1e-12)

    @pytest.mark.parametrize("baseline", ["mean", "blur", "noise"])
    def test_sums_exactly_to_the_difference(self, net, baseline):
        method = IDGI(net, steps=2, baseline=baseline)
        start = next(method._points((IMAGES,)))[0]
        difference = (net(IMAGES) - net(start))[range(3), TARGETS].detach()
        assert torch.allclose(method.attribute(IMAGES, TARGETS).sum((1, 2, 3)), difference, atol=1e-12)

    def test_several_inputs_and_small_gradients(self):
        """A linear score is shared out by its squared weights, whatever their size, over all inputs together."""
        one, two = IDGI(lambda a, b: 1e-25 * (3 * a.sum(1) + b.sum((1, 2))), steps=1).attribute(
            (torch.ones(2, 1), torch.ones(2, 2, 2))
        )
        assert one.flatten().tolist() == pytest.approx([7e-25 * 9 / 13] * 2)
        assert two.flatten().tolist() == pytest.approx([7e-25 / 13] * 8)
        assert IDGI(lambda a: 0 * a.sum(1)).attribute(torch.ones(2, 3)).abs().max() == 0

    def test_one_backward_pass_per_step(self):
        modes = []

        def net(x):
            modes.append(torch.is_grad_enabled())
            return x.square().sum((1, 2, 3))

        IDGI(net, steps=3).attribute(IMAGES)
        assert modes == [True, True, True, False]


class TestExpectedGradients:
    def test_one_baseline_is_the_straight_path_of_a_linear_model(self):
        weights = torch.randn(2, 8, 10, dtype=torch.float64)
        start = torch.randn(1, 2, 8, 10)
        found = GradientSHAP(lambda x: (x * weights).sum((1, 2, 3)), baselines=start).attribute(IMAGES)
        assert torch.allclose(found, (IMAGES - start.double()) * weights)

    def test_sum_approaches_the_mean_difference(self, net):
        data = torch.randn(5, 2, 8, 10, dtype=torch.float64)
        found = GradientSHAP(net, samples=600, baselines=data).attribute(IMAGES, TARGETS).sum((1, 2, 3))
        difference = (net(IMAGES) - net(data).mean(0))[range(3), TARGETS].detach()
        assert torch.allclose(found, difference, atol=0.2 * difference.abs().max().item())

    def test_baselines_that_do_not_fit(self, net):
        for wrong in (torch.zeros(0, 2, 8, 10), torch.zeros(4, 2, 8, 8), (torch.zeros(1, 2, 8, 10),) * 2):
            with pytest.raises(ValueError, match=r"`baselines` must hold rows of the shapes \[\(2, 8, 10\)\]"):
                GradientSHAP(net, baselines=wrong).attribute(IMAGES, 1)


def test_squared_smoothgrad_is_variance_plus_square(net):
    squared, mean, variance = (m(net, samples=5).attribute(IMAGES, 1) for m in (SmoothGradSquared, SmoothGrad, VarGrad))
    assert torch.allclose(squared, mean**2 + variance * 4 / 5, atol=1e-14)


class TestHSIC:
    def test_is_hsic_of_masks_and_scores(self, net):
        """By the definition, with the Gaussian kernel of the scores and the linear one of the masks."""
        method, seen = HSICAttribution(net, samples=20, cells=2, seed=3), []
        handle = net.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
        maps = method.attribute(IMAGES[:1], 1)
        handle.remove()
        masks = torch.stack([(x[0, 0] != 0)[::4, ::5].flatten() for x, _ in seen]).double()
        assert masks.sum(0).tolist() == [10] * 4
        scores = torch.stack([z[0, 1] for _, z in seen]).detach()
        squares = (scores[:, None] - scores) ** 2
        pairs = squares[torch.triu_indices(20, 20, 1).unbind()]
        gram, center = torch.exp(-squares / (2 * pairs.median())), torch.eye(20, dtype=torch.float64) - 1 / 20
        for cell, value in enumerate(maps[0, 0, ::4, ::5].flatten()):
            inputs = torch.outer(masks[:, cell], masks[:, cell])
            expected = torch.trace(inputs @ center @ gram @ center) / 19**2
            assert value.item() == pytest.approx(expected.item(), rel=1e-4)

    def test_finds_the_cell_in_either_direction(self):
        """A cell that lowers the score counts as one that raises it; the others stay below 1 / (4 N) on average."""
        for sign in (1, -1):
            method = HSICAttribution(lambda x, s=sign: s * x[:, 0, 1, 1], samples=200, cells=4)
            cells = method.attribute(torch.ones(1, 1, 8, 8))[0, 0, ::2, ::2].flatten()
            assert cells.argmax() == 0
            assert cells[1:].mean() < 1 / 800 < cells[0] / 30
        assert HSICAttribution(lambda x: 0 * x.sum((1, 2, 3)), samples=9).attribute(torch.ones(1, 1, 8, 8)).sum() == 0


@pytest.mark.parametrize("build", [BlurIG, IDGI, HSICAttribution, SmoothGrad], ids=lambda b: b.__name__)
def test_a_model_that_squeezes_a_single_row(build, net):
    found = build(lambda x: net(x)[:, 1:2].squeeze()).attribute(IMAGES[:1])
    assert torch.allclose(found, build(net).attribute(IMAGES[:1], 1))


def test_bounds(net):
    wrong = ((BlurIG, "steps", 0), (BlurIG, "sigma", -1), (IDGI, "steps", 0), (IDGI, "baseline", "red"))
    for build, name, value in (*wrong, (HSICAttribution, "samples", 1), (HSICAttribution, "cells", 0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            build(net, **{name: value})
    with pytest.raises(ValueError, match=r"`inputs` must be a floating-point tensor of shape \(B, C, H, W\)"):
        BlurIG(net).attribute(torch.ones(2, 3), 1)
