"""A network and its explanation as one program: the numbers are those of the network and of ``explain``."""

import captum.attr
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import sibx
from sibx import SmoothGrad, explain, export_explained
from sibx.attribution import MethodSpec

SIDE = 32
GRADIENT, CAMS = (
    ("sib", "vjp", "saliency", "input_x_gradient"),
    ("gradcam", "gradcam_pp", "layercam", "hirescam", "xgradcam"),
)


def small(classes=5):
    """A network whose BatchNorm has seen images, and which is in train mode; its few layers are traced in no time."""
    torch.manual_seed(0)
    features = nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, 1, 1)
    head = nn.BatchNorm2d(16), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)
    model = nn.Sequential(*features, *head).train()
    with torch.no_grad():
        model(torch.randn(16, 3, SIDE, SIDE) * 2 + 1)
    return model


def check(model, program, method, side=SIDE, **options):
    """Batches of any size give what the network and ``explain`` give, without gradients."""
    run = program.module()
    for count in (1, 2, 5):
        images = torch.randn(count, 3, side, side)
        logits, heatmaps = run(images)
        with sibx.models.eval_mode(model), torch.no_grad():
            torch.testing.assert_close(logits, model(images), rtol=1e-5, atol=1e-5)
        expected = explain(model, images, method, **options)
        torch.testing.assert_close(heatmaps / expected.max(), expected / expected.max(), rtol=1e-4, atol=1e-5)
        assert heatmaps.amax((1, 2, 3)).min() > 0
    return run


@pytest.mark.parametrize("method", [*GRADIENT, *CAMS])
def test_numbers_are_those_of_explain(method):
    model = small()
    run = check(model, export_explained(model, torch.zeros(1, 3, SIDE, SIDE), method), method)
    assert model.training
    broken = torch.randn(2, 3, SIDE, SIDE)
    broken[0, 0, 0, 0] = torch.nan
    assert run(broken)[1].isnan().all((1, 2, 3)).tolist() == [True, False]


def test_resnet(tmp_path):
    torch.manual_seed(0)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7).eval()
    torch.export.save(export_explained(model, torch.zeros(3, 3, 64, 64), "sib"), tmp_path / "explained.pt2")
    check(model, torch.export.load(tmp_path / "explained.pt2"), "sib", 64)


@pytest.mark.parametrize("method", ["sib", "gradcam"])
def test_binary_and_labels(method):
    binary = small(1)
    check(binary, export_explained(binary, torch.zeros(1, 3, SIDE, SIDE), method), method)
    labels = small(3)
    options = {"output": "sigmoid"}
    check(labels, export_explained(labels, torch.zeros(1, 3, SIDE, SIDE), method, **options), method, **options)


def test_a_layer():
    model = small()
    layer = next(name for name, part in model.named_modules() if isinstance(part, nn.MaxPool2d))
    program = export_explained(model, torch.zeros(1, 3, SIDE, SIDE), "layercam", layer=layer)
    check(model, program, "layercam", layer=layer)


SMOOTH = MethodSpec("smooth", "SmoothGrad", lambda model, _: SmoothGrad(model, samples=2), "Smilkov 2017")


class Moody(nn.Module):
    """A network that looks at values on its way."""

    def forward(self, images):
        return images.mean((2, 3)) if images.sum().item() > 0 else images.amax((2, 3))


@pytest.mark.parametrize(
    ("make", "method", "message"),
    [
        # Torch 2.6 cannot trace random numbers at all.
        (small, SMOOTH, "`method` must (run the network once, on the images themselves|be one that torch can trace)"),
        (small, "scorecam", "`method` must be one that torch can trace, .* but got 'scorecam' of Sequential"),
        (Moody, "saliency", "`method` must be one that torch can trace, .* but got 'saliency' of Moody"),
        (small, captum.attr.Saliency, "`method` must be a SafeAttribution"),
        (lambda: Moody().forward, "saliency", "`model` must be a module"),
    ],
)
def test_what_cannot_be_exported(make, method, message):
    with pytest.raises(ValueError, match=message):
        export_explained(make(), torch.zeros(1, 3, SIDE, SIDE), method)


def test_only_the_shape_of_the_example_counts():
    model, shape = small(), (3, SIDE, SIDE)
    with torch.inference_mode():
        made_in_it = torch.zeros(1, *shape)
        programs = [export_explained(model, made_in_it, "gradcam")]
    others = torch.zeros(0, *shape), torch.full((1, *shape), torch.nan, requires_grad=True)
    programs += [export_explained(model, example, "gradcam") for example in (made_in_it, *others)]
    for program in programs:
        run = check(model, program, "gradcam")
        assert not any(values.requires_grad for values in run(torch.zeros(2, *shape)))
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(ValueError, match="`example` must have the dtype of the model's weights, float32"):
        export_explained(model, made_in_it.double(), "gradcam")


def test_maps_that_are_zero_everywhere_are_right_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    nn.init.constant_(model[0].bias, -100.0)  # no unit is ever active
    example = torch.zeros(1, 3, SIDE, SIDE)
    assert not explain(model, torch.randn(3, 3, SIDE, SIDE), "gradcam").any()
    assert not export_explained(model, example, "gradcam").module()(example)[1].any()
