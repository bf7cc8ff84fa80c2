"""Where the units of a layer look, and maps drawn there."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models as tv

from sibx.models import ReceptiveField, TinyCNN, find_cam_layer, receptive_field, resolve_layer
from tests.references.receptive_field import compose

IMAGE = torch.zeros(1, 3, 224, 224)
STEPS = st.tuples(st.sampled_from(["conv", "max", "average"]), st.integers(1, 5), st.integers(1, 2), st.integers(0, 2))


@given(st.lists(STEPS, min_size=1, max_size=5))
@example([("conv", 2, 1, 1)] * 5)  # each makes the map a unit larger than the image
@example([("average", 4, 1, 2)] * 3)
@settings(max_examples=20, deadline=None)
def test_chains_are_the_closed_form(steps):
    steps = [(kind, kernel, stride, min(padding, kernel // 2)) for kind, kernel, stride, padding in steps]
    kinds = {
        "conv": lambda k, s, p: nn.Sequential(nn.Conv2d(3, 3, k, s, p), nn.BatchNorm2d(3), nn.ReLU6()),
        "max": nn.MaxPool2d,
        "average": nn.AvgPool2d,
    }
    model = nn.Sequential(*(kinds[kind](*rest) for kind, *rest in steps))
    stride, offset = compose([(*rest, 1) for _, *rest in steps])
    assert receptive_field(model, model[-1], IMAGE) == ((stride, stride), (offset, offset))


def test_axes_and_dilation():
    model = nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), stride=(1, 2), padding=(0, 2)),
        nn.Conv2d(4, 4, 3, dilation=2, stride=(3, 1)),
    )
    rows, columns = compose([(3, 1, 0, 1), (3, 3, 0, 2)]), compose([(5, 2, 2, 1), (3, 1, 0, 2)])
    expected = ReceptiveField((rows[0], columns[0]), (rows[1], columns[1]))
    assert receptive_field(model, model[1], IMAGE) == expected


@pytest.mark.parametrize(
    ("name", "stride", "offset"),
    [
        ("resnet18", 32, 0),  # odd kernels with symmetric padding throughout
        ("mobilenet_v2", 32, 0),
        ("mobilenet_v3_small", 32, 0),  # squeeze-and-excitation looks everywhere and is left out
        ("shufflenet_v2_x0_5", 32, 0),
        ("alexnet", 32, 31),  # 11 / 4, padding 2; three 3 / 2 pools without padding
        ("vgg11", 32, 15.5),  # 2 / 2 pools
        ("squeezenet1_1", 16, 15),
        ("densenet121", 32, 14),  # 2 / 2 pools at strides 4, 8 and 16
        ("googlenet", 32, 22),  # ceil-mode pools, on four branches
        ("convnext_tiny", 32, 15.5),  # 4 / 4 and 2 / 2 convolutions
        ("vit_b_16", 16, 7.5),  # attention is left out
        ("swin_t", 32, 15.5),  # patches merged by slices
    ],
)
def test_torchvision(name, stride, offset):
    options = {"init_weights": False} if name == "googlenet" else {}
    model = tv.get_model(name, weights=None, **options).eval()
    layer = resolve_layer(model, find_cam_layer(model, 224))
    assert receptive_field(model, layer, IMAGE) == ((stride, stride), (offset, offset))


def test_leaves_no_trace():
    model = TinyCNN(3, norm="batch").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = receptive_field(model, model.features, IMAGE)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    assert receptive_field(model, model.features, IMAGE) is first  # measured once


def test_works_in_inference_mode():
    model = TinyCNN(3)
    with torch.inference_mode():
        assert receptive_field(model, model.features, torch.zeros(1, 3, 64, 64)).stride == (4, 4)


def test_models_with_more_arguments():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Conv2d(1, 2, 3, stride=2)

        def forward(self, images, scale):
            return self.net(images * scale).mean((2, 3))

    model = Scaled()
    assert receptive_field(model, model.net, IMAGE[:, :1], torch.ones(1, 1, 1, 1)) == ((2, 2), (1, 1))


def test_what_cannot_be_measured():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(ValueError, match="each look at a place of their own"):
        receptive_field(model, model[1], IMAGE)
    with pytest.raises(ValueError, match="run in the model's forward pass"):
        receptive_field(model, nn.ReLU(), IMAGE)
    one = OneSize(nn.Conv2d(3, 4, 32), 32)
    with pytest.raises(ValueError, match="two units along each axis"):
        receptive_field(one, one.net, IMAGE[..., :32, :32])
    far = OneSize(tv.resnet18(weights=None).eval(), 64)
    with pytest.raises(ValueError, match="accept images of 608 pixels"):
        receptive_field(far, far.net.layer4, IMAGE[..., :64, :64])
    resized = Wrapped(tv.resnet18(weights=None).eval(), lambda x: F.interpolate(x, (224, 224)))
    for side in (224, 1024):
        with pytest.raises(ValueError, match="with the stride that it has at 608 pixels"):
            receptive_field(resized, resized.net.layer4, torch.zeros(1, 3, side, side))
    patches = Wrapped(nn.Conv2d(3, 4, 32, 32), resized.change)  # its units see little: they fit into a small image too
    with pytest.raises(ValueError, match="with the stride that it has at 608 pixels"):
        receptive_field(patches, patches.net, IMAGE[..., :128, :128])
    uneven = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=8))
    with pytest.raises(ValueError, match=r"places side by side|look at a place"):
        receptive_field(Wrapped(uneven, lambda x: x[..., ::3, ::3]), uneven[1], IMAGE)


class Wrapped(nn.Module):
    """A network behind a change of its images."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, images):
        return self.net(self.change(images))


class OneSize(nn.Module):
    """A network that insists on the size of its images."""

    def __init__(self, net, side):
        super().__init__()
        self.net, self.side = net, side

    def forward(self, images):
        assert images.shape[-1] == self.side, "wrong size"
        return self.net(images)


class TestUnusualNetworks:
    @pytest.mark.parametrize(
        "change",
        [lambda x: (x - 0.45) / 0.22, lambda x: 2 * x - 1, lambda x: x / 3, lambda x: 0 * x - 5],
        ids=["normalize", "to -1..1", "scale", "constant"],
    )
    def test_models_that_change_the_values(self, change):
        model = Wrapped(
            nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU6()), change
        )
        if float(change(torch.ones(1)) - change(torch.zeros(1))) == 0:
            with pytest.raises(ValueError, match="a unit that looks nowhere"):
                receptive_field(model, model.net, IMAGE)
        else:
            assert receptive_field(model, model.net, IMAGE) == ((4, 4), (0, 0))

    def test_a_second_map_is_enlarged_too(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = tv.resnet18(weights=None).eval()

            def forward(self, images, masks):
                return self.net(torch.cat([images[:, :2], masks], 1))

        model = Two()
        field = receptive_field(model, model.net.layer4, torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64))
        assert field == ((32, 32), (0, 0))

    def test_a_shared_layer_is_measured_in_its_last_run(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.pool, self.convs = nn.MaxPool2d(2), nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

            def forward(self, x):
                for conv in self.convs:
                    x = self.pool(conv(x).relu())
                return x.mean((2, 3))

        model = Shared()
        assert receptive_field(model, model.pool, IMAGE) == ((8, 8), (3.5, 3.5))

    @pytest.mark.parametrize(
        ("layers", "stride", "offset"),
        [
            ([nn.Conv2d(3, 4, 32, 32), nn.Upsample(scale_factor=2)], 16, 7.5),
            ([nn.Conv2d(3, 4, 16, 16), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2)], 8, 3.5),
            ([nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 4, 4), nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2)], 8, 3.5),
            ([nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 4, 1)], 0.5, -0.25),
            ([nn.Conv2d(3, 4, 4, 4), nn.MaxPool2d(3, 2, 1, dilation=2)], 8, 5.5),
            ([nn.Conv2d(3, 4, 3, 2, "valid"), nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect")], 2, 1),
            ([nn.PixelUnshuffle(4), nn.Conv2d(48, 48, 3, padding=1, groups=48)], 4, 1.5),
            ([nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.GELU(), nn.LPPool2d(2, 2)], 4, 2),
        ],
        ids=["nearest", "transposed", "grouped", "bilinear", "dilated", "reflect", "unshuffle", "ceil"],
    )
    def test_layers(self, layers, stride, offset):
        model = nn.Sequential(*layers)
        assert receptive_field(model, model[-1], IMAGE) == ((stride, stride), (offset, offset))

    def test_functions_with_keywords_and_indices(self):
        class Functional(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight, self.out = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Identity()

            def forward(self, x):
                x = F.conv2d(input=x, weight=self.weight, stride=2, padding=1)
                x, _ = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
                return self.out(x * (1 + x.mean(1, keepdim=True)))

        model = Functional()
        assert receptive_field(model, model.out, IMAGE) == ((4, 4), (0, 0))

    @pytest.mark.parametrize("highest", [lambda x, d: x.max(d).values, lambda x, d: torch.amax(x, dim=d)])
    def test_maxima_over_a_dimension(self, highest):
        """They pool, as Hiera's do, where every cell's four parts lie on an axis of their own."""

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.patch, self.out = nn.Conv2d(3, 4, 4, 4), nn.Identity()

            def forward(self, x):
                x = F.pixel_unshuffle(self.patch(x), 2).unflatten(1, (4, 4))
                return self.out(highest(x, 2) + x.max() + torch.max(x[:, :, 0], x[:, :, 3]))

        model = Pooled()
        assert receptive_field(model, model.out, IMAGE) == ((8, 8), (3.5, 3.5))

    def test_patches_with_an_embedding_per_position(self):
        class Patches(nn.Module):
            def __init__(self):
                super().__init__()
                self.patch, self.position = nn.Conv2d(3, 8, 16, 16), nn.Embedding(196, 8)

            def forward(self, x):
                tokens = self.patch(x).flatten(2).transpose(1, 2)
                return tokens + self.position(torch.arange(tokens.shape[1]))

        model = Patches()
        assert receptive_field(model, model.patch, IMAGE) == ((16, 16), (7.5, 7.5))

    def test_one_layer_in_two_models(self):
        layer = nn.Conv2d(3, 4, 4, 4)
        plain, pooled = nn.Sequential(layer), nn.Sequential(nn.AvgPool2d(2), layer)
        assert receptive_field(plain, layer, IMAGE) == ((4, 4), (1.5, 1.5))
        assert receptive_field(pooled, layer, IMAGE) == ((8, 8), (3.5, 3.5))


class TestDraw:
    def test_a_unit_peaks_where_it_looks(self):
        field = ReceptiveField((32, 16), (0, 7.5))
        maps = torch.zeros(1, 2, 7, 14)
        maps[0, :, 3, 5] = 1
        drawn = field.draw(maps, (224, 224))
        assert drawn.shape == (1, 2, 224, 224)
        peak = drawn[0, 0] == drawn.max()
        assert peak.nonzero().tolist() == [[96, 87], [96, 88]]

    def test_weights_that_are_kept_serve_every_mode_and_precision(self):
        field, maps = ReceptiveField((3, 3), (0.5, 0.5)), torch.rand(1, 1, 5, 5, dtype=torch.float64)
        with torch.inference_mode():
            drawn = [field.draw(maps.to(dtype), (17, 17)) for dtype in (torch.float32, torch.float64)]
        assert [d.dtype for d in drawn] == [torch.float32, torch.float64]
        assert torch.allclose(drawn[0].double(), drawn[1])
        assert torch.equal(field.draw(maps.requires_grad_(), (17, 17)), drawn[1])
        field.draw(maps, (17, 17)).sum().backward()
        assert torch.allclose(maps.grad.sum(), torch.tensor(17.0**2).double())

    def test_patches_are_plain_upsampling(self):
        """For patches side by side both conventions agree."""
        maps = torch.randn(2, 1, 7, 14, dtype=torch.float64)
        plain = F.interpolate(maps, (224, 224), mode="bilinear")
        assert torch.allclose(ReceptiveField((32, 16), (15.5, 7.5)).draw(maps, (224, 224)), plain)

    @given(st.floats(1, 40), st.floats(-20, 40), st.integers(2, 9), st.integers(1, 90))
    @settings(deadline=None)
    def test_range_and_constants(self, stride, offset, units, pixels):
        field = ReceptiveField((stride, stride), (offset, offset))
        maps = torch.rand(1, 1, units, units, dtype=torch.float64)
        drawn = field.draw(maps, (pixels, pixels))
        assert drawn.min() >= maps.min() - 1e-12
        assert drawn.max() <= maps.max() + 1e-12
        assert torch.allclose(field.draw(torch.ones_like(maps), (pixels, pixels)), torch.ones(1, dtype=torch.float64))


class TestPool:
    def test_patches_are_plain_average_pooling(self):
        maps = torch.randn(2, 3, 24, 32, dtype=torch.float64)
        field = ReceptiveField((4, 8), (1.5, 3.5))
        assert torch.allclose(field.pool(maps, (6, 4)), F.avg_pool2d(maps, (4, 8)))

    @given(st.floats(0.5, 20), st.floats(-30, 60), st.integers(1, 7), st.integers(1, 40))
    @settings(deadline=None)
    def test_rows_are_the_definition(self, stride, offset, units, pixels):
        """Pixels cover [y - 1/2, y + 1/2); a cell covers half a stride to either side of what its unit looks at."""
        weights = ReceptiveField((stride, 1), (offset, 0)).pool(
            torch.eye(pixels, dtype=torch.float64)[:, None, :, None], (units, 1)
        )
        weights = weights[:, 0, :, 0].T
        for unit, row in enumerate(weights):
            center = offset + stride * unit
            low, high = center - stride / 2, center + stride / 2
            cover = [max(0.0, min(high, y + 0.5) - max(low, y - 0.5)) for y in range(pixels)]
            if sum(cover) == 0:
                cover = [float(y == min(max(round(center), 0), pixels - 1)) for y in range(pixels)]
            assert row.tolist() == pytest.approx([c / sum(cover) for c in cover], abs=1e-9)

    def test_stride_32_of_symmetric_padding(self):
        """The cell of a ResNet's unit (3, 5) is centered at pixel (96, 160); the first unit's is cut by the border."""
        field, maps = ReceptiveField((32, 32), (0, 0)), torch.zeros(1, 1, 224, 224, dtype=torch.float64)
        maps[..., 81:112, 145:176] = 1  # without the pixels on either side, which the cell covers by half
        maps[..., :16, :16] = 1
        pooled = field.pool(maps, (7, 7))
        assert pooled[0, 0, 3, 5].item() == pytest.approx((31 / 32) ** 2)
        assert pooled[0, 0, 0, 0].item() == pytest.approx((16 / 16.5) ** 2)

    def test_gradient(self):
        field, maps = ReceptiveField((4, 3), (1, 0.5)), torch.randn(1, 2, 9, 8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda m: field.pool(m, (3, 4)), maps)
