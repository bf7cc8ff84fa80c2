"""What is recorded of a layer: maps with channels first whatever the layout, one row per image, once per pass."""

import pytest
import torch
from torch import nn

from sibx.attribution import SIBAttribution, build_method
from sibx.models import receptive_field, record
from sibx.objectives import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, evidence_masks

CAMS = ("gradcam", "gradcam_pp", "layercam", "hirescam", "xgradcam", "eigencam", "scorecam", "ablationcam")


class Permute(nn.Module):
    """Axes in another order, as a module."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


def networks(channels):
    """The same network twice, with positive maps: with channels last behind the patches, and with channels first."""
    torch.manual_seed(0)
    patch, mix, head = nn.Conv2d(3, channels, 8, 8), nn.Linear(channels, channels), nn.Linear(channels, 4)
    nn.init.normal_(mix.weight, std=0.5)
    nn.init.uniform_(head.weight)
    nn.init.zeros_(head.bias)
    first = nn.Conv2d(channels, channels, 1)
    first.weight.data, first.bias.data = mix.weight.data[..., None, None], mix.bias.data
    pool, to_last, to_first = nn.AdaptiveAvgPool2d(1), Permute(0, 2, 3, 1), Permute(0, 3, 1, 2)
    last = nn.Sequential(patch, to_last, mix, nn.ReLU(), to_first, pool, nn.Flatten(), head)
    return last.eval(), nn.Sequential(patch, first, nn.ReLU(), pool, nn.Flatten(), head).eval()


@pytest.mark.parametrize("channels", [3, 4, 6, 40], ids=["few", "as many as cells", "close", "many"])
class TestChannelsLast:
    """Wherever a layer is read, (B, h, w, C) gives what (B, C, h, w) gives."""

    @pytest.mark.parametrize("name", CAMS)
    def test_cams(self, name, channels):
        last, first = networks(channels)
        x = torch.randn(2, 3, 32, 48)
        found = [build_method(name, m, layer).attribute(x, 1) for m, layer in ((last, "3"), (first, "2"))]
        assert found[0].any()
        assert torch.allclose(*found, atol=1e-5)

    def test_maps_of_sib(self, channels):
        last, first = networks(channels)
        x = torch.randn(2, 3, 32, 48)
        found = [SIBAttribution(m, layer=n).attribute(x, 1) for m, n in ((last, "3"), (first, "2"))]
        assert torch.allclose(*found, atol=1e-5)

    def test_losses_and_own_masks(self, channels):
        x, y, masks = torch.randn(4, 3, 32, 32), torch.arange(4), torch.zeros(4, 1, 32, 32, dtype=torch.bool)
        masks[..., 8:24, 16:32] = True
        totals, own, guided = [], [], []
        for model, layer in zip(networks(channels), ("3", "2"), strict=True):
            config = SIBConfig.recommended("given", layers={layer: 1.0})
            totals.append(SIBLoss(config)(model, x, y, masks).total)
            own.append(evidence_masks(model, x, SIBConfig.recommended("self", layers={layer: 1.0})))
            guided.append(GuidanceLoss(GuidanceConfig("energy-cam", 1.0, layer))(model, x, y, masks).total)
        assert torch.allclose(*totals)
        assert torch.equal(*own)
        assert torch.allclose(*guided)

    def test_receptive_field(self, channels):
        last, first = networks(channels)
        x = torch.zeros(1, 3, 32, 48)
        assert receptive_field(last, last[3], x) == receptive_field(first, first[2], x) == ((8, 8), (3.5, 3.5))


class TestChannelsFirst:
    @pytest.mark.parametrize("channels", [1, 8, 16])
    def test_as_many_channels_as_cells(self, channels):
        model = nn.Sequential(nn.Conv2d(3, channels, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64 * channels, 2))
        x = torch.randn(2, 3, 32, 32)
        with record(model, {"a": model[1]}) as outputs:
            model(x)
        assert torch.equal(outputs["a"], model[:2](x))

    def test_what_cannot_be_told(self):
        """A cube whose axes all look everywhere."""
        model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 2))
        with pytest.raises(ValueError, match=r"`layer` must output a map .* cannot be told .* \(1, 4, 4, 4\)"):
            build_method("gradcam", model, "1").attribute(torch.randn(1, 3, 32, 32), 1)


class TestRuns:
    class Two(nn.Module):
        """One network over two inputs."""

        def __init__(self):
            super().__init__()
            self.f, self.h = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Linear(16, 2)

        def forward(self, a, b):
            return self.h(torch.cat([self.f(x).mean((2, 3)) for x in (a, b)], 1))

    @pytest.mark.parametrize("name", CAMS)
    def test_a_layer_that_runs_twice(self, name):
        x = torch.randn(1, 3, 16, 16)
        with pytest.raises(ValueError, match="`layer` 'f' must run once in a forward pass, but it runs again"):
            build_method(name, self.Two().eval(), "f").attribute((x, x), 1)

    @pytest.mark.parametrize("align", ["receptive_field", "half_pixel"])
    def test_more_rows_than_images(self, align):
        class Windows(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.windows, self.head = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Linear(8, 3)

            def forward(self, x):
                x = self.conv(x).unflatten(3, (2, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
                return self.head(self.windows(x).unflatten(0, (-1, 2)).mean((1, 3, 4)))

        method = build_method("gradcam", Windows(), "windows")
        method.align = align
        with pytest.raises(ValueError, match=r"'windows' must output one row for each of the 2 images, .* \(4,"):
            method.attribute(torch.randn(2, 3, 32, 32), 1)
