"""XRAI and its control, FullGrad, and the low-passed gradient: slow forms, closed forms, sums."""

import numpy as np
import pytest
import torch
from torch import nn

from sibx.attribution import XRAI, FullGrad, LowPassGradient, Saliency, explain
from sibx.attribution.xrai import _grow, _segments, random_regions
from sibx.models import TinyCNN


def halves():
    """A dark and a bright half, and a small bright square in the dark one."""
    images = torch.zeros(2, 3, 32, 32)
    images[..., 16:] = 1
    images[..., 4:12, 4:12] = 1
    return images


class TestXRAI:
    def test_growing_is_the_papers(self):
        """Every step takes the segment whose new pixels have the largest mean, all of them computed again."""
        generator = np.random.default_rng(0)
        values = generator.normal(size=(6, 7))
        segments = [generator.random((6, 7)) < 0.3 for _ in range(9)] + [np.ones((6, 7), bool)]
        expected, region = np.zeros((6, 7)), np.zeros((6, 7), bool)
        while not region.all():
            new = [s & ~region for s in segments]
            best = max((n for n in new if n.any()), key=lambda n: values[n].mean())
            expected[best] = values[best].mean()
            region |= best
        assert _grow(segments, values) == pytest.approx(expected)

    def test_segments_cover_the_image_and_follow_its_colors(self):
        segments = _segments(halves()[0])
        assert np.logical_or.reduce(segments).all()
        square = np.zeros((32, 32), bool)
        square[4:12, 4:12] = True
        found = [s for s in segments if s[6:10, 6:10].all() and not s[16:].any() and not s[:, 16:].any()]
        assert any((s & square).sum() / (s | square).sum() > 0.6 for s in found)

    def test_finds_the_region_that_the_model_looks_at(self):
        """The mean of the square is the score; its attributions from black and white cancel in value, not in place."""
        images = halves()
        maps = XRAI(lambda x: x[..., 4:12, 4:12].square().mean((1, 2, 3)), steps=4).attribute(images)
        assert maps.shape == (2, 1, 32, 32)
        assert maps[..., 5:11, 5:11].min() > maps[..., 16:].max()
        given = XRAI(lambda x: x.mean((2, 3)), attributions=Saliency(lambda x: (x[..., 20:] * 3).mean((2, 3))))
        assert given.attribute(images, 1)[..., 22:30].min() > given.attribute(images, 1)[..., :12].max()

    def test_control_has_the_segments_and_no_model(self):
        images = halves()
        maps = random_regions(images)
        shown = explain(TinyCNN(2, width=4).eval(), images, "control_regions")
        assert torch.allclose(shown / shown.amax(), maps)
        assert 2 <= len(maps[0].unique()) < 60  # regions, not pixels
        assert maps.amax((1, 2, 3)).tolist() == [1, 1]
        ranked, sizes = maps[0].unique(return_counts=True)
        joined = sizes.flip(0).cumsum(0) - sizes.flip(0)  # how many pixels came before those of a value
        assert torch.allclose(ranked.flip(0), 1 - joined / 1024)
        assert torch.equal(maps[0], maps[1])  # the numbers belong to the content
        with pytest.raises(ValueError, match="`steps` must be"):
            XRAI(lambda x: x, steps=0)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_segments_of_any_number_of_channels(channels):
    """All of them count, and no library doubts aloud that they are channels: a warning is an error here."""
    image = torch.zeros(channels, 32, 32)
    image[-1, :, 16:] = 1
    segments = _segments(image)
    assert len(segments) > 1
    assert len({s.tobytes() for s in _segments(torch.zeros(channels, 32, 32))}) == 1
    assert XRAI(lambda x: x.mean((1, 2, 3)), steps=1).attribute(image[None]).isfinite().all()


class TestFullGrad:
    @pytest.fixture
    def net(self):
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 5, 3, 2),
            nn.ReLU(inplace=True),
        )
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3, bias=False)).double()
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
        for parameter in net[1].parameters():
            parameter.data.normal_()
        return net.eval()

    def test_parts_sum_to_the_score(self, net):
        """Of a piecewise linear network; BatchNorm's running mean is a bias, too."""
        images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
        parts = FullGrad(net).parts(images, [1, 2])
        assert [p.shape[1] for p in parts] == [3, 4, 4, 5]
        assert torch.allclose(sum(p.sum((1, 2, 3)) for p in parts), net(images)[range(2), [1, 2]])
        assert all(p.abs().max() > 0 for p in parts)

    def test_transposed_convolutions_and_synchronized_norms_have_parts(self, net):
        images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
        net[1] = nn.SyncBatchNorm.convert_sync_batchnorm(net[1]).eval()
        net[3] = nn.ConvTranspose2d(4, 5, 3, 2).double()
        parts = FullGrad(net).parts(images, 1)
        assert [p.shape[1] for p in parts] == [3, 4, 4, 5]
        assert torch.allclose(sum(p.sum((1, 2, 3)) for p in parts), net(images)[:, 1])

    def test_is_the_sum_of_scaled_parts(self, net):
        images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
        found, parts = FullGrad(net).attribute(images, 1), FullGrad(net).parts(images, 1)
        for row in range(2):
            expected = torch.zeros(12, 12, dtype=torch.float64)
            for part in parts:
                size = part[row].abs()
                scaled = (size - size.min()) / (size.max() - size.min())
                drawn = nn.functional.interpolate(scaled[None], (12, 12), mode="bilinear")
                expected += drawn[0].sum(0)
            assert torch.allclose(found[row, 0], expected)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"`forward_func` must be a torch.nn.Module"):
            FullGrad(lambda x: x)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        with pytest.raises(ValueError, match="`forward_func` must have biases in convolutions or BatchNorm"):
            FullGrad(flat).attribute(torch.ones(1, 3, 2, 2), 1)


class TestLowPass:
    @pytest.mark.parametrize("shape", [(12, 16), (9, 7)])
    def test_keeps_waves_below_the_cutoff(self, shape):
        """A linear model whose weights are a slow wave, a fast one and a mean."""
        y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in shape), indexing="ij")
        slow, fast = torch.cos(2 * torch.pi * (x + y)) + 0.3, torch.sin(2 * torch.pi * 3 * x)
        images = torch.zeros(2, 1, *shape, dtype=torch.float64)

        def model(inputs):
            return (inputs * (slow + fast)).sum((1, 2, 3))

        assert torch.allclose(LowPassGradient(model, cutoff=2).attribute(images), slow.expand(2, 1, -1, -1))
        assert torch.allclose(LowPassGradient(model, cutoff=3).attribute(images), Saliency(model).attribute(images))
        assert torch.allclose(LowPassGradient(model, cutoff=0).attribute(images), torch.tensor(0.3).double())
        with pytest.raises(ValueError, match="`cutoff` must be"):
            LowPassGradient(model, cutoff=-1)
