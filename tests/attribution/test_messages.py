"""What a method says of a model or of images that do not fit: train mode, volumes, shapes, dtypes."""

import inspect
import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from captum.attr import Attribution
from torch import nn
from torchvision.ops import StochasticDepth

from sibx import SIBConfig, TrainConfig, attribution, build_model, evaluate, fine_tune
from sibx.attribution import (
    LIME,
    METHODS,
    XRAI,
    BlurIG,
    GradCAM,
    GradientSHAP,
    IntegratedGradients,
    Saliency,
    SIBAttribution,
    SmoothGrad,
    build_method,
    explain,
    explain_many,
)
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN


@pytest.fixture
def data():
    return InMemoryDataset.load(SyntheticDataset("val", 32, size=4))


class TestTrainMode:
    def test_warns_once(self, images):
        model = TinyCNN(5, width=8)
        with pytest.warns(UserWarning, match=r"train mode: with BatchNorm2d a map depends .* model.eval\(\)"):
            Saliency(model).attribute(images, target=1)
        for method in (SIBAttribution(model), Saliency(model), GradCAM(model)):
            method.attribute(images, target=1)  # in these tests a warning is an error

    @pytest.mark.parametrize(
        ("layer", "name"),
        [
            (nn.Dropout(0.1), "Dropout"),
            (nn.Dropout2d(0.1), "Dropout2d"),
            (StochasticDepth(0.1, "row"), "StochasticDepth"),
            (nn.MultiheadAttention(4, 1, dropout=0.1), "MultiheadAttention"),
            (nn.BatchNorm2d(4), "BatchNorm2d"),
            (nn.RReLU(), "RReLU"),
        ],
        ids=str,
    )
    def test_what_acts_otherwise(self, layer, name, images):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.more = layer
        net.forward = lambda x: net[2](net[1](net[0](x)))
        with pytest.warns(UserWarning, match=f"train mode: with {name} a map"):
            Saliency(net).attribute(images, target=1)

    @pytest.mark.parametrize(
        "layer", [nn.Dropout(0.0), StochasticDepth(0.0, "row"), nn.LayerNorm(4), nn.MultiheadAttention(4, 1)], ids=str
    )
    def test_what_does_not(self, layer, images):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.more = layer
        net.forward = lambda x: net[2](net[1](net[0](x)))
        Saliency(net).attribute(images, target=1)

    def test_eval_mode_and_explain_are_silent(self, images):
        model = TinyCNN(5, width=8)
        explain(model, images, "sib")
        Saliency(model.eval()).attribute(images, target=1)
        assert build_model("tiny_cnn", 5).training


class TestVolumes:
    """(B, C, d, h, w): a map of the input's shape, or an error; never signed numbers called a mask."""

    VOLUMES = torch.randn(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def net(self):
        torch.manual_seed(0)
        layers = nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
        return nn.Sequential(*layers).eval()

    @pytest.mark.parametrize("output", ["foreground", "mask", "background"])
    def test_no_mask(self, output, net):
        rule = rf"`inputs` must have no more dimensions than an image \(B, C, H, W\) for output='{output}'"
        with pytest.raises(ValueError, match=rule):
            SIBAttribution(net, output=output).attribute(self.VOLUMES, 1)

    def test_no_soft_mask(self, net):
        with pytest.raises(ValueError, match="`inputs` must have no more dimensions than an image"):
            SIBAttribution(net).soft_mask(self.VOLUMES, 1)

    def test_gradients(self, net):
        gradient = Saliency(net).attribute(self.VOLUMES, target=1)
        assert gradient.shape == self.VOLUMES.shape
        assert torch.equal(SIBAttribution(net, output="vjp").attribute(self.VOLUMES, 1), gradient)
        assert IntegratedGradients(net).attribute(self.VOLUMES, target=1).isfinite().all()

    @pytest.mark.parametrize("name", [n for n, s in METHODS.items() if s.kind == "cam"])
    def test_no_cams(self, name, net):
        with pytest.raises(ValueError, match=r"`inputs` must be a floating-point tensor of shape \(B, C, H, W\)"):
            build_method(name, net, "1").attribute(self.VOLUMES, target=1)
        with pytest.raises(ValueError, match=r"`inputs` must be a floating-point tensor of shape \(B, C, H, W\)"):
            SIBAttribution(net, layer="1").attribute(self.VOLUMES, target=1)

    @pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5)])
    def test_vectors_and_sequences(self, shape):
        net, x = nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), torch.randn(shape)
        net(x)
        vjp_map = SIBAttribution(net, output="vjp").attribute(x, 1)
        assert torch.equal(SIBAttribution(net).attribute(x, 1), vjp_map)
        for output in ("mask", "background"):
            with pytest.raises(ValueError, match=rf"`inputs` must hold an image tensor .* for output='{output}'"):
                SIBAttribution(net, output=output).attribute(x, 1)

    def test_a_vector_beside_an_image(self, model, images):
        vector = torch.randn(4, 5)

        def scores(images, vector):
            return model(images) * vector

        parts = {
            o: SIBAttribution(scores, output=o).attribute((images, vector), 1)
            for o in ("foreground", "background", "mask", "vjp")
        }
        assert torch.equal(parts["mask"][1], torch.ones_like(vector))
        for front, back, whole in zip(parts["foreground"], parts["background"], parts["vjp"], strict=True):
            assert torch.allclose(front + back, whole)
        several = SIBAttribution(scores).soft_mask((images, vector), [[0, 1]] * 4)
        assert several.shape == (4, 2, 1, 32, 32)
        swapped = SIBAttribution(lambda v, i: scores(i, v)).soft_mask((vector, images), 1)
        assert torch.equal(swapped, SIBAttribution(scores).soft_mask((images, vector), 1))


@pytest.mark.parametrize("name", ["saliency", "sib", "gradcam", "integrated_gradients", "occlusion", "rise"])
class TestImagesThatDoNotFit:
    @pytest.fixture
    def model(self):
        return TinyCNN(5, width=8, activation="relu").eval()

    def test_one_image_without_a_batch(self, name, model, images):
        with pytest.raises(ValueError, match=r"`inputs` must be .*\(B, C, H, W\).* of shape \(3, 32, 32\)"):
            build_method(name, model).attribute(images[0], target=1)

    @pytest.mark.parametrize("wrong", [lambda x: x[:, :1], lambda x: x.movedim(1, 3)])
    def test_other_channels(self, name, wrong, model, images):
        with pytest.raises(ValueError, match="`inputs` must have the 3 channels of the model's first convolution"):
            build_method(name, model).attribute(wrong(images), target=1)

    def test_another_dtype(self, name, model, images):
        with pytest.raises(ValueError, match="`inputs` must have the dtype of the model's weights, bfloat16, but"):
            build_method(name, model.bfloat16()).attribute(images, target=1)


def test_a_layer_that_is_looked_up(images):
    model = TinyCNN(5, width=8).eval()
    with pytest.raises(ValueError, match=r"`images` must be .*\(B, C, H, W\).* of shape \(3, 32, 32\)"):
        explain_many(model, images[0], 1, ["gradcam"])
    with pytest.raises(ValueError, match="`images` must have the dtype of the model's weights, bfloat16, but"):
        explain_many(model.bfloat16(), images, 1, ["gradcam"])


def test_a_model_that_is_none(images):
    with pytest.raises(ValueError, match="`model` must be a module or a function, but got 'resnet18'"):
        explain("resnet18", images)


def test_an_exported_model(images):
    """It has no layers, but gradients and scores."""
    net = TinyCNN(5, width=8, norm="group").eval()
    exported = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    assert torch.allclose(explain(exported, images, "saliency"), explain(net, images, "saliency"), atol=1e-6)
    with pytest.raises(ValueError, match="`layer` must be given for"):
        GradCAM(exported).attribute(images, target=1)


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.weight, self.error = nn.Parameter(torch.zeros(1, dtype=torch.float64)), error

    def forward(self, _):
        raise self.error


@pytest.mark.parametrize("error", [ValueError("`mine` must stay"), torch.OutOfMemoryError("mine")], ids=str)
def test_errors_that_say_it_themselves_stay(error, images):
    with pytest.raises(type(error), match="mine"):
        Saliency(Failing(error)).attribute(images, target=1)


def test_errors_of_functions_stay(images):
    with pytest.raises(RuntimeError, match="mine"):
        Saliency(Failing(RuntimeError("mine")).forward).attribute(images, target=1)


def test_whole_numbers_and_finite_ones():
    """Of all methods: what counts something is a whole number, and what measures something is a number, not NaN."""
    classes = [getattr(attribution, name) for name in attribution.__all__]
    methods = [c for c in classes if inspect.isclass(c) and issubclass(c, Attribution)]
    model, wrong = TinyCNN(2, width=4).eval(), {"whole": (2.5, True, "3"), "": (float("nan"), "3")}
    refused = 0
    for method, given in itertools.product(methods, ("whole", "")):
        kinds = (int, int | None) if given else (float,)
        names = [p.name for p in inspect.signature(method).parameters.values() if p.annotation in kinds]
        for name, value in itertools.product(names, wrong[given]):
            with pytest.raises(ValueError, match=f"`{name}` must .*{given}"):
                method(model, **{name: value})
            refused += 1
    assert refused > 120
    for method, name in ((LIME, "ridge"), (BlurIG, "sigma"), (SmoothGrad, "noise"), (GradientSHAP, "noise")):
        with pytest.raises(ValueError, match=f"`{name}` must be finite"):
            method(model, **{name: float("inf")})
    with pytest.raises(ValueError, match="`seed` must be at least -2"):
        LIME(model, seed=2**64)
    with pytest.raises(ValueError, match="`attributions` must be a method in Captum's form, but got 'gradcam'"):
        XRAI(model, attributions="gradcam")


def test_evaluate_and_fine_tune(data):
    with pytest.raises(ValueError, match="`images` must have the dtype of the model's weights, bfloat16"):
        evaluate(TinyCNN(8).bfloat16(), data, methods=["saliency"], metrics=["deletion"], progress=False)
    config = TrainConfig(epochs=1, batch_size=2)
    for settings in (config, replace(config, objective=SIBConfig())):
        with pytest.raises(ValueError, match="`images` must have the dtype of the model's weights, float64"):
            fine_tune(TinyCNN(8).double(), data, config=settings, progress=False)
    with pytest.raises(ValueError, match="`images` must have the dtype of the model's weights, float64"):
        explain(TinyCNN(8).double(), torch.stack([s.image for s in data]))
    with pytest.raises(ValueError, match=r"`labels` must lie in 0..\d, the model's classes"):
        fine_tune(TinyCNN(int(max(s.label for s in data))), data, config=config, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(TinyCNN(8), data, methods=["saliency"], metrics=["foreground_focus"], progress=False)
