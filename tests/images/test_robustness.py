"""Attacks and corruptions: against their papers, against captum, and what they must leave alone."""

import pytest
import torch
import torch.nn.functional as F
from captum.robust import FGSM, PGD
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.images.attacks import fgsm, pgd
from sibx.images.corruptions import (
    CONTRAST_FACTOR,
    CORRUPTIONS,
    DEFOCUS,
    JPEG_QUALITY,
    NOISE_DEVIATION,
    corrupt,
    defocus_kernel,
)
from sibx.models import TinyCNN
from tests.references import robustness as reference

EPSILON = 2 / 255


@pytest.fixture
def case():
    """A network without batch statistics, images with black and white pixels, labels, seeds."""
    torch.manual_seed(0)
    net = TinyCNN(5, width=8, norm="group").double().eval()
    pixels = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels[:, :, :4], pixels[:, :, -4:] = 0, 1
    return net, pixels, torch.tensor([0, 3, 4]), [5, 6, 7]


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def start_of(pixels, seeds):
    draws = [torch.rand(pixels.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws).to(pixels) * 2 - 1


# Attacks


@pytest.mark.parametrize("epsilon", [0.0, EPSILON, 0.3, 1.0])
def test_fgsm_is_the_definition(case, epsilon):
    net, pixels, labels, _ = case
    adversarial = fgsm(net, pixels, labels, epsilon)
    for i in range(3):
        assert torch.allclose(adversarial[i], reference.fgsm(net, pixels[i], labels[i].item(), epsilon))
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@pytest.mark.parametrize(("steps", "step_size"), [(1, None), (4, None), (3, 0.01)])
def test_pgd_is_the_definition(case, steps, step_size):
    net, pixels, labels, seeds = case
    adversarial = pgd(net, pixels, labels, EPSILON, seeds=seeds, steps=steps, step_size=step_size)
    starts = start_of(pixels, seeds)
    size = 2.5 * EPSILON / steps if step_size is None else step_size
    for i in range(3):
        expected = reference.pgd(net, pixels[i], labels[i].item(), EPSILON, starts[i], steps, size)
        assert torch.allclose(adversarial[i], expected)
    assert (adversarial - pixels).abs().max() <= EPSILON + 1e-12
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
def test_attacks_are_captums(case):
    """With the cross-entropy as loss, captum's threshold at zero, and for PGD our start."""
    net, pixels, labels, seeds = case
    theirs = FGSM(net, cross_entropy, lower_bound=0, upper_bound=1)
    theirs.zero_thresh = 0
    leaf = pixels.clone().requires_grad_()
    assert torch.allclose(fgsm(net, pixels, labels, EPSILON), theirs.perturb(leaf, EPSILON, labels))

    class Started(PGD):
        def _random_point(self, center, radius, norm, mask):
            return center + radius * start_of(pixels, seeds)

    theirs = Started(net, cross_entropy, lower_bound=0, upper_bound=1)
    theirs.fgsm.zero_thresh = 0
    expected = theirs.perturb(leaf, EPSILON, EPSILON / 2, 5, labels, random_start=True)
    assert torch.allclose(pgd(net, pixels, labels, EPSILON, seeds=seeds, steps=5), expected)


def test_confidence_is_no_defense(case):
    """Logits 25 apart: p is 1 in float32 and captum's FGSM changes nothing; the paper's sign, from float64, is ours."""
    net, pixels, _, seeds = case
    for image in pixels:
        with torch.no_grad():
            first, second = net(image[None])[0].topk(2)[0]
            label = net(image[None]).argmax(1)
        scale = (25 / (first - second)).item()
        expected = reference.fgsm(lambda x, scale=scale: net.double()(x) * scale, image, label.item(), EPSILON) - image

        def certain(x, scale=scale):
            return net.float()(x) * scale

        low = image[None].float()
        assert certain(low).softmax(1).max() == 1
        moved = fgsm(certain, low, label, EPSILON)[0] - image
        assert ((moved - expected).abs() < 1e-6).double().mean() > 0.99  # rounding turns the sign of a few
        theirs = FGSM(certain, cross_entropy, lower_bound=0, upper_bound=1)
        assert torch.equal(theirs.perturb(low.clone().requires_grad_(), EPSILON, label), low)
        assert ((pgd(certain, low, label, EPSILON, seeds=seeds[:1]) - low).abs() > EPSILON / 2).double().mean() > 0.5
        net.double()


def test_two_classes_and_a_linear_model():
    """In closed form: the sign of w_other - w_label."""
    weights = torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = torch.full((2, 3, 2, 2), 0.5, dtype=torch.float64)
    adversarial = fgsm(lambda x: x.flatten(1) @ weights.T, pixels, torch.tensor([0, 1]), 0.1)
    toward = (weights[1] - weights[0]).sign().view(3, 2, 2) * 0.1
    assert torch.allclose(adversarial, torch.stack([0.5 + toward, 0.5 - toward]))


def test_attacks_leave_no_trace(case):
    net, pixels, labels, seeds = case
    net.train()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, state = pixels.clone(), torch.get_rng_state()
    outside = pgd(net, pixels, labels, EPSILON, seeds=seeds, steps=2)
    with torch.inference_mode():
        inside = pgd(net, pixels, labels, EPSILON, seeds=seeds, steps=2)
    with torch.no_grad():
        assert torch.equal(fgsm(net, pixels, labels, EPSILON), fgsm(net, pixels, labels, EPSILON))
    assert torch.equal(outside, inside)
    assert not outside.requires_grad
    assert torch.equal(pixels, before)
    assert not pixels.requires_grad
    assert net.training
    assert all((p.grad == 1).all() and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_do_not_depend_on_the_batch(case):
    net, pixels, labels, seeds = case
    whole = pgd(net, pixels, labels, EPSILON, seeds=seeds)
    alone = [pgd(net, pixels[i : i + 1], labels[i : i + 1], EPSILON, seeds=seeds[i : i + 1]) for i in range(3)]
    assert torch.allclose(whole, torch.cat(alone))
    for corruption in CORRUPTIONS:
        whole = corrupt(pixels, corruption, 3, seeds)
        alone = [corrupt(pixels[i : i + 1], corruption, 3, seeds[i : i + 1]) for i in range(3)]
        assert torch.allclose(whole, torch.cat(alone))


# Corruptions


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_blur_is_the_published_one(severity):
    """At 224 px: the disc, and its convolution with mirrored borders, at the corners and inside."""
    disc = reference.disc(*DEFOCUS[severity - 1])
    kernel = defocus_kernel(severity, 224)
    assert kernel == pytest.approx(disc, abs=1e-7)
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(severity))
    blurred = corrupt(pixels, "defocus_blur", severity, [0])
    for channel, y, x in ((0, 0, 0), (1, 223, 5), (2, 100, 223), (0, 117, 60)):
        expected = reference.convolved_at(pixels[0, channel].numpy(), disc, y, x)
        assert blurred[0, channel, y, x].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("side", [32, 64, 160, 448])
def test_blur_keeps_its_proportion(severity, side):
    kernel = defocus_kernel(severity, side)
    expected = reference.rescaled(reference.disc(*DEFOCUS[severity - 1]), side / 224)
    assert kernel.shape == expected.shape
    assert kernel == pytest.approx(expected, abs=0.03 * expected.max())
    assert kernel.sum() == pytest.approx({1: 1, 5: 1.0108}[severity], abs=1e-4)
    assert kernel == pytest.approx(kernel[::-1, ::-1], abs=1e-7)
    assert kernel == pytest.approx(kernel.T, abs=1e-7)


def test_blur_of_a_tiny_image_is_none():
    assert defocus_kernel(1, 4).shape == (1, 1)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), severity=st.integers(1, 5))
def test_contrast_and_jpeg_are_the_definition(seed, severity):
    pixels = torch.rand(2, 3, 17, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    less = corrupt(pixels, "contrast", severity, [0, 0])
    written = corrupt(pixels, "jpeg_compression", severity, [0, 0])
    for row in range(2):
        image = pixels[row].numpy()
        assert less[row].numpy() == pytest.approx(reference.less_contrast(image, CONTRAST_FACTOR[severity - 1]))
        assert written[row].numpy() == pytest.approx(reference.jpeg(image, JPEG_QUALITY[severity - 1]), abs=1e-6)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_noise_is_normal_and_seeded(severity):
    gray = torch.full((2, 3, 64, 64), 0.5)
    noise = corrupt(gray, "gaussian_noise", severity, [1, 2]) - 0.5
    deviation = NOISE_DEVIATION[severity - 1]
    free = noise[noise.abs() < 0.499]  # what is clipped lies at the ends
    inside = torch.distributions.Normal(0.0, deviation)
    assert len(free) / noise.numel() == pytest.approx(1 - 2 * inside.cdf(torch.tensor(-0.5)).item(), abs=0.01)
    assert noise.median().item() == pytest.approx(0, abs=0.01)
    quartile = noise.abs().median().item()
    assert quartile == pytest.approx(inside.icdf(torch.tensor(0.75)).item(), rel=0.05)
    assert not torch.equal(noise[0], noise[1])
    again = corrupt(gray[:1], "gaussian_noise", severity, [2]) - 0.5
    assert torch.equal(again[0], noise[1])


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_severity_grows(corruption):
    smooth = F.interpolate(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), size=64, mode="bilinear")
    errors = [(corrupt(smooth, corruption, s, [3, 4]) - smooth).square().mean().item() for s in range(1, 6)]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert corrupt(smooth[:0], corruption, 1, []).shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, x, y, s: fgsm(n, x[0], y, 0.1), "`pixels` must be a floating-point tensor of shape"),
        (lambda n, x, y, s: fgsm(n, x * 2, y, 0.1), r"`pixels` must lie in \[0, 1\], but got 2"),
        (lambda n, x, y, s: fgsm(n, x * torch.nan, y, 0.1), r"`pixels` must lie in \[0, 1\], but got nan"),
        (lambda n, x, y, s: fgsm(n, x, y, 8), r"`epsilon` must lie in \[0, 1\], but got 8"),
        (lambda n, x, y, s: fgsm(n, x, y + 1, 0.1), r"`labels` must lie in 0..4"),
        (lambda n, x, y, s: fgsm(n, x, y, 0.1, output="raw"), "`output` must be 'softmax' or 'sigmoid' for an attack"),
        (lambda n, x, y, s: fgsm(lambda z: z, x, y, 0.1), "`model` must return logits of shape"),
        (lambda n, x, y, s: pgd(n, x, y, -0.1, seeds=s), r"`epsilon` must lie in \[0, 1\], but got -0.1"),
        (lambda n, x, y, s: pgd(n, x, y, 0.1, seeds=s[:1]), "`seeds` must have 3 entries, one per image, but got 1"),
        (lambda n, x, y, s: pgd(n, x, y, 0.1, seeds=s, steps=0), "`steps` must be at least 1"),
        (lambda n, x, y, s: pgd(n, x, y, 0.1, seeds=s, step_size=-1), "`step_size` must be at least 0"),
        (lambda n, x, y, s: corrupt(x, "fog", 1, s), "`corruption` must be one of gaussian_noise, .*but got 'fog'"),
        (lambda n, x, y, s: corrupt(x, "contrast", 0, s), r"`severity` must lie in \[1, 5\], but got 0"),
        (lambda n, x, y, s: corrupt(x.byte(), "contrast", 1, s), "`pixels` must be a floating-point tensor"),
        (lambda n, x, y, s: corrupt(x, "contrast", 1, []), "`seeds` must have 3 entries"),
    ],
)
def test_errors(call, message, case):
    with pytest.raises(ValueError, match=message):
        call(*case)
