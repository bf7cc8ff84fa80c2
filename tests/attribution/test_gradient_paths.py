"""No silent zeros: a score that gradients do not follow is an error, and so is a class that the model does not have."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum import attr as captum
from torch import nn

from sibx import evaluate
from sibx.attribution import (
    METHODS,
    AblationCAM,
    DeepLift,
    GradCAM,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SIBAttribution,
    build_method,
    vjp,
)
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.objectives import Frozen, GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, evidence_masks

NO_PATH = "got a score that does not depend on it. Usual reasons: no_grad"
INPUT_METHODS = ["saliency", "input_x_gradient", "smoothgrad", "vargrad", "integrated_gradients", "gradient_shap"]
INPUT_METHODS += ["guided_backprop", "deeplift", "sib", "vjp"]
ADAPTERS = [*INPUT_METHODS[:-1], "guided_gradcam", "occlusion", "rise", "gradcam", "ablationcam", "scorecam"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyCNN(num_classes=5, width=8, activation="relu").eval()


class Broken(nn.Module):
    """A classifier whose forward pass gradients do not follow, in one of the usual ways."""

    def __init__(self, model, how):
        super().__init__()
        self.features, self.classifier, self.how = model.features, model.classifier, how

    def forward(self, images):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.classifier(self.features(images).mean((2, 3)))
        if self.how == "inference_mode":
            with torch.inference_mode():
                return self.classifier(self.features(images).mean((2, 3)))
        if self.how == "numpy":
            images = torch.from_numpy(images.detach().numpy().astype(np.float32))
        if self.how == "uint8":
            images = (images * 50 + 128).to(torch.uint8).float() / 255
        features = self.features(images)
        return self.classifier((features.detach() if self.how == "detach" else features).mean((2, 3)))


WAYS = ["no_grad", "inference_mode", "numpy", "uint8", "detach"]


@pytest.mark.parametrize("how", WAYS)
class TestNoPath:
    @pytest.mark.parametrize("name", INPUT_METHODS)
    def test_maps(self, name, how, model, images):
        target = {"target": 1} if METHODS[name].uses_target else {}
        with pytest.raises(ValueError, match=NO_PATH):
            build_method(name, Broken(model, how)).attribute(images[:1], **target)

    def test_vjp(self, how, model, images):
        with pytest.raises(ValueError, match=NO_PATH):
            vjp(Broken(model, how), images)

    def test_losses(self, how, model, images):
        masks, labels = torch.zeros(4, 1, 32, 32, dtype=torch.bool), torch.arange(4)
        masks[..., 4:20, 4:20] = True
        for loss in (SIBLoss(), GuidanceLoss(GuidanceConfig("rrr", weight=1.0))):
            with pytest.raises(ValueError, match=NO_PATH):
                loss(Broken(model, how), images, labels, masks)

    def test_at_a_layer(self, how, model, images):
        broken = Broken(model, how)
        if how in ("numpy", "uint8"):  # the way from the layer on is whole
            expected = GradCAM(model, "features", align="half_pixel").attribute(rounded(how, images), target=1)
            found = GradCAM(broken, "features", align="half_pixel").attribute(images, target=1)
            assert torch.allclose(found, expected, atol=1e-6)
            return
        for method in (GradCAM(broken, "features"), SIBAttribution(broken, layer="features")):
            with pytest.raises(ValueError, match=NO_PATH):
                method.attribute(images, target=1)


def rounded(how, images):
    return (images * 50 + 128).to(torch.uint8).float() / 255 if how == "uint8" else images


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.side = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, images, other):
        self.side(images)
        return self.f(images).relu().mean((2, 3))


@pytest.mark.parametrize("cls", [Saliency, InputXGradient, IntegratedGradients, SIBAttribution])
def test_an_input_that_is_not_used_gets_zeros(cls, images):
    first, second = cls(TwoInputs()).attribute((images, images), target=1)
    assert first.abs().max() > 0
    assert second.abs().max() == 0


class SideBranch(TwoInputs):
    def forward(self, images):
        return super().forward(images, images)


def test_a_layer_of_a_side_branch(images):
    masks, labels = torch.zeros(4, 1, 32, 32, dtype=torch.bool), torch.zeros(4, dtype=torch.int64)
    masks[..., 4:20, 4:20] = True
    model, energy = SideBranch(), GuidanceConfig("energy-cam", weight=1.0, layer="side")
    sib = replace(SIBConfig.recommended("given", {"f": 1.0, "side": 1.0}), swap=0.0)
    own = [SIBConfig.recommended("self", {"side": 1.0}), SIBConfig(layers={"side": 1.0}, masks=Frozen(reading="vjp"))]
    for call in (
        lambda: GradCAM(model, "side").attribute(images, target=1),
        lambda: GradCAM(model, ["f", "side"]).attribute(images, target=1),
        lambda: SIBLoss(sib)(model, images, labels, masks),
        lambda: GuidanceLoss(energy)(model, images, labels, masks),
        lambda: evidence_masks(model, images, own[0]),
        lambda: evidence_masks(model, images, own[1]),
    ):
        with pytest.raises(ValueError, match=NO_PATH):
            call()


def test_evaluate_stops(model, images):
    data = InMemoryDataset.load(SyntheticDataset("val", 32, size=4))
    with pytest.raises(ValueError, match=NO_PATH):
        evaluate(Broken(model, "no_grad"), data, methods=["saliency"], metrics=["foreground_focus"], progress=False)


@pytest.mark.parametrize("name", ADAPTERS)
class TestTargets:
    """The methods that captum computes have the errors of all others."""

    @pytest.mark.parametrize(
        ("target", "got"),
        [(5, 5), (-1, -1), (torch.tensor([0, -2]), -2), ([0, 5], 5), (torch.tensor(9), 9), ((5,), 5)],
        ids=str,
    )
    def test_out_of_range(self, name, target, got, model, images):
        with pytest.raises(ValueError, match=rf"`target` must lie in 0..4, the model's classes, but got {got}"):
            build_method(name, model).attribute(images[:2], target=target)

    def test_too_many_indices(self, name, model, images):
        with pytest.raises(ValueError, match=r"`target` must have at most 1 indices .* of shape \(\d+, 5\)"):
            build_method(name, model).attribute(images[:2], target=(1, 0))

    def test_outputs_that_are_no_tensor(self, name, model, images):
        class Detailed(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, images):
                return {"logits": self.model(images)}

        with pytest.raises(ValueError, match=r"must return .*got a dict"):
            build_method(name, Detailed()).attribute(images[:2], target=1)

    def test_segmentation(self, name, images):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        with pytest.raises(ValueError, match=r"must (pick one score per row|return logits)"):
            build_method(name, net, "1").attribute(images[:2], target=1)


@pytest.mark.parametrize("cls", ["Saliency", "InputXGradient"])
def test_values_are_captums(cls, model, images):
    peer = getattr(captum, cls)(model)
    options = {"abs": False} if cls == "Saliency" else {}
    expected = peer.attribute(images.clone().requires_grad_(), target=[0, 1, 2, 3], **options)
    ours = {"Saliency": Saliency, "InputXGradient": InputXGradient}[cls](model).attribute(images, target=[0, 1, 2, 3])
    assert torch.equal(ours, expected)


class TestAblationCAM:
    class Shifted(nn.Module):
        def __init__(self, model, by):
            super().__init__()
            self.model, self.by = model, by

        def forward(self, images):
            return self.model(images) + self.by

    @pytest.mark.parametrize("by", [-10.0, 0.0, 10.0])
    def test_a_constant_changes_nothing(self, by, model, images):
        expected = AblationCAM(model.double(), "features").attribute(images.double(), target=1)
        found = AblationCAM(self.Shifted(model, by), "model.features").attribute(images.double(), target=1)
        assert expected.max() > 0
        assert torch.allclose(found, expected, atol=1e-12)

    def test_a_model_that_ends_in_log_softmax(self, model, images):
        """All its scores are negative; what lowers the log-probability counts for the class."""
        net = nn.Sequential(model, nn.LogSoftmax(1)).double()
        assert AblationCAM(net, "0.features").attribute(images.double(), target=1).max() > 0


class Net(nn.Module):
    """Two convolutions; activations are modules or functions."""

    def __init__(self, *activations):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 3)
        self.modules_ = nn.ModuleList(a for a in activations if isinstance(a, nn.Module))
        self.activations = activations

    def forward(self, images):
        one, two = self.activations
        return self.head(two(self.second(one(self.first(images)))).mean((2, 3)))


UNREACHED = [
    ((nn.ReLU(), F.relu), "relu"),
    ((nn.ReLU(), torch.relu), "relu"),
    ((nn.ReLU(), torch.Tensor.relu), "relu"),
    ((nn.ReLU(), nn.SiLU()), "silu"),
    ((nn.ReLU(), nn.GELU()), "gelu"),
    ((nn.ReLU(), nn.ReLU6()), "relu6|hardtanh"),
]


class TestRulesThatDoNotReach:
    IMAGES = 3 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    @pytest.mark.parametrize("activations", [(F.relu, F.relu), (nn.ReLU(), F.relu), (nn.SiLU(), nn.SiLU())])
    def test_deeplift_says_so(self, activations):
        with pytest.warns(UserWarning, match=r"DeepLIFT's contributions sum to .* its rules did not reach"):
            DeepLift(Net(*activations).eval()).attribute(self.IMAGES, target=1)

    def test_deeplift_refuses_an_activation_that_runs_twice(self):
        relu = nn.ReLU()
        net = Net(relu, relu).eval()
        with pytest.raises(ValueError, match=r"must run every activation and pooling once .* got runs of"):
            DeepLift(net).attribute(self.IMAGES, target=1)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_deeplift_is_silent_where_it_is_complete(self, dtype):
        net = Net(nn.ReLU(), nn.ReLU()).eval().to(dtype)
        found = DeepLift(net).attribute(self.IMAGES.to(dtype), target=1)
        if dtype == torch.float64:
            with torch.no_grad():
                change = net(self.IMAGES.double()) - net(torch.zeros_like(self.IMAGES).double())
            assert torch.allclose(found.sum((1, 2, 3)), change[:, 1])

    @pytest.mark.parametrize(("activations", "name"), UNREACHED)
    def test_guided_methods_name_them(self, activations, name):
        net = Net(*activations).eval()
        for method in (GuidedBackprop(net), GuidedGradCAM(net, "second")):
            with pytest.warns(UserWarning, match=f"passes through these activations unguided: ({name})"):
                method.attribute(self.IMAGES, target=1)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())

    def test_guided_methods_are_silent_where_all_are_reached(self):
        GuidedBackprop(Net(nn.ReLU(), nn.ReLU()).eval()).attribute(self.IMAGES, target=1)


def test_occlusion_of_a_segmentation_is_refused(images):
    with pytest.raises(ValueError, match="`target` must pick one score per row"):
        Occlusion(nn.Conv2d(3, 4, 3, 1, 1)).attribute(images, target=1)
