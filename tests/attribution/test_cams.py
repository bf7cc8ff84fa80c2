"""The CAM family: each against its slow form from the paper, shared passes, and third-party oracles where installed."""

import captum.attr as captum
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer

from sibx.attribution import (
    METHODS,
    RISE,
    AblationCAM,
    DeepLift,
    EigenCAM,
    GradientSHAP,
    GuidedBackprop,
    GuidedGradCAM,
    Occlusion,
    Saliency,
    ScoreCAM,
    ShapleyCAM,
    VarGrad,
    build_method,
    explain_many,
)
from sibx.models import TinyCNN, receptive_field, record
from tests.references import cams as reference

GRADIENT_CAMS = ("gradcam", "gradcam_pp", "layercam", "hirescam", "xgradcam", "eigengradcam")
ALL_CAMS = (*GRADIENT_CAMS, "eigencam", "scorecam", "ablationcam")
TARGETS = [3, 0]


@pytest.fixture
def net():
    """ReLU, so that peers which assume non-negative activations agree; the head is not linear in the features."""
    torch.manual_seed(3)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 12), nn.SiLU(), nn.Linear(12, 4))
    return nn.Sequential(features, head).double().eval()


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def activations_and_gradients(net, pictures):
    with record(net, {"f": net[0]}) as outputs:
        scores = net(pictures)[range(len(TARGETS)), TARGETS].sum()
    return outputs["f"].detach().numpy(), torch.autograd.grad(scores, outputs["f"])[0].numpy()


def coarse(name, net, pictures):
    """Our map on the layer's grid, for every image its own target."""
    method = METHODS[name].build(net, "0")
    method.upsample, method.align = False, "half_pixel"  # Score-CAM's masks are drawn as published
    return method.attribute(pictures, target=TARGETS)[:, 0].numpy()


@pytest.mark.parametrize("name", GRADIENT_CAMS)
def test_gradient_cams_are_the_papers(name, net, pictures):
    a, g = activations_and_gradients(net, pictures)
    expected = np.stack([getattr(reference, name)(a[i], g[i]) for i in range(2)])
    assert coarse(name, net, pictures) == pytest.approx(expected, abs=1e-12)


def test_eigencam_is_the_papers(net, pictures):
    a, _ = activations_and_gradients(net, pictures)
    expected = np.stack([reference.eigencam(x) for x in a])
    assert coarse("eigencam", net, pictures) == pytest.approx(expected, abs=1e-6)


def test_eigencam_does_not_pass_nan_on():
    a = torch.randn(2, 3, 4, 4)
    a[0, 0, 0, 0] = torch.nan
    projection = EigenCAM.project(a)
    assert projection[0].isnan().any()
    assert projection[1].isfinite().all()


def test_scorecam_is_the_papers(net, pictures):
    a, _ = activations_and_gradients(net, pictures)

    def enlarge(channel):
        return F.interpolate(torch.from_numpy(channel)[None, None], (20, 24), mode="bilinear")[0, 0].numpy()

    for i, target in enumerate(TARGETS):

        def score(image, target=target):
            with torch.no_grad():
                return net(torch.from_numpy(image)[None])[0, target].item()

        expected = reference.scorecam(score, pictures[i].numpy(), a[i], enlarge)
        assert coarse("scorecam", net, pictures)[i] == pytest.approx(expected, abs=1e-12)


def test_ablationcam_is_the_papers(net, pictures):
    a, _ = activations_and_gradients(net, pictures)
    for i, target in enumerate(TARGETS):

        def tail(activations, target=target):
            with torch.no_grad():
                return net[1](torch.from_numpy(activations)[None])[0, target].item()

        assert coarse("ablationcam", net, pictures)[i] == pytest.approx(reference.ablationcam(tail, a[i]), abs=1e-12)


def test_dead_layers_give_zero_maps(net, pictures):
    """No activation, no map: never NaN (peers divide by zero here)."""
    with torch.no_grad():
        net[0][3].weight.zero_()
        net[0][3].bias.fill_(-1)
    for name in ALL_CAMS:
        assert not coarse(name, net, pictures).any(), name


class TestVisionTransformer:
    """Tokens are laid out as a grid, the class token is dropped, and the map still follows the image."""

    @pytest.fixture(scope="class")
    @staticmethod
    def vit():
        torch.manual_seed(0)
        options = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
        model = VisionTransformer(**options, num_classes=4)
        nn.init.normal_(model.heads.head.weight)  # torchvision starts at zero
        return model.double().eval()

    @pytest.mark.parametrize("name", ALL_CAMS)
    def test_maps(self, name, vit):
        x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
        method = build_method(name, vit)
        heatmap = method.attribute(x, target=[1, 2])
        assert heatmap.shape == (2, 1, 32, 32)
        assert heatmap.any()
        alone = method.attribute(x[1:], target=2)
        assert torch.allclose(heatmap[1:], alone)

    def test_gradcam_is_the_formula_on_tokens(self, vit):
        x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
        layer = vit.encoder.layers[-1].ln_1
        with record(vit, {"t": layer}, tokens=True) as outputs:
            score = vit(x)[0, 3]
        tokens, gradients = outputs["t"], torch.autograd.grad(score, outputs["t"])[0]
        weights = gradients[0, 1:].mean(0)
        expected = (tokens[0, 1:] @ weights).relu().view(4, 4)
        ours = METHODS["gradcam"].build(vit, layer)
        ours.upsample = False
        assert torch.allclose(ours.attribute(x, target=3)[0, 0], expected)


@pytest.mark.parametrize("name", ALL_CAMS)
def test_half_pixel_is_plain_upsampling(name, net, pictures):
    method = METHODS[name].build(net, "0")
    method.align = "half_pixel"
    full = method.attribute(pictures, target=TARGETS)
    assert full.shape == (2, 1, 20, 24)
    method.upsample = False
    expected = F.interpolate(method.attribute(pictures, target=TARGETS), (20, 24), mode="bilinear")
    assert torch.allclose(full, expected)


@pytest.mark.parametrize("name", sorted(set(ALL_CAMS) - {"scorecam"}))  # its masks are drawn too
def test_units_are_drawn_where_they_look(name, net, pictures):
    """Unit (i, j) of conv 3 (padded), pool 2, conv 3 (not padded) looks at pixel (2 i + 2.5, 2 j + 2.5)."""
    full = METHODS[name].build(net, "0").attribute(pictures, target=TARGETS)[:, 0].numpy()
    grid = coarse(name, net, pictures)
    middle = (full[:, 2:18:2, 2:22:2] + full[:, 3:19:2, 2:22:2] + full[:, 2:18:2, 3:23:2] + full[:, 3:19:2, 3:23:2]) / 4
    assert middle[:, 1:-1, 1:-1] == pytest.approx(_blur(grid)[:, 1:-1, 1:-1], abs=1e-12)


def _blur(grid):
    """Bilinear interpolation a quarter of a cell away in every direction, averaged."""
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = 0.125 * padded[:, :-2] + 0.75 * padded[:, 1:-1] + 0.125 * padded[:, 2:]
    return 0.125 * rows[:, :, :-2] + 0.75 * rows[:, :, 1:-1] + 0.125 * rows[:, :, 2:]


def test_hirescam_is_gradcam_for_a_pooled_linear_head():
    """Both are then relu(w_k . a) up to the number of positions."""
    torch.manual_seed(0)
    model, x = TinyCNN(4, width=8).double().eval(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    hires, grad = (build_method(n, model).attribute(x, target=1) for n in ("hirescam", "gradcam"))
    assert torch.allclose(hires, grad)


class TestShapleyCAM:
    def test_is_grad_cam_with_half_of_the_hessian_taken_off(self, net, pictures):
        """The whole Hessian of the score at the layer, built, times the activations."""
        method = ShapleyCAM(net, "0", upsample=False)
        maps = method.attribute(pictures[:, :, :8, :8], target=TARGETS)
        for row, target in enumerate(TARGETS):
            a = net[0](pictures[row : row + 1, :, :8, :8]).detach()
            size = a.numel()
            hessian = torch.autograd.functional.hessian(lambda t, k=target: net[1](t)[0, k], a).view(size, size)
            gradient = torch.autograd.functional.jacobian(lambda t, k=target: net[1](t)[0, k], a)
            weights = (gradient - (hessian @ a.flatten()).view_as(a) / 2).mean((2, 3), keepdim=True)
            assert torch.allclose(maps[row], (weights * a).sum(1).relu(), atol=1e-12)
            assert not torch.allclose(weights, gradient.mean((2, 3), keepdim=True), rtol=0.01)

    def test_is_grad_cam_where_the_head_is_linear(self):
        torch.manual_seed(0)
        model, x = TinyCNN(4, width=8).eval(), torch.rand(2, 3, 32, 32)
        assert torch.equal(ShapleyCAM(model).attribute(x, 1), build_method("gradcam", model).attribute(x, 1))

    def test_is_differentiable(self, net, pictures):
        images = pictures[:, :, :8, :8].clone().requires_grad_()
        total = ShapleyCAM(net, "0", create_graph=True).attribute(images, TARGETS).sum()
        assert torch.autograd.grad(total, images)[0].abs().max() > 0


class TestSeveralLayers:
    @pytest.mark.parametrize("name", ["gradcam", "eigencam", "scorecam", "ablationcam"])
    def test_product(self, name, net, pictures):
        cls = METHODS[name].build
        maps = [cls(net, layer).attribute(pictures, target=TARGETS) for layer in ("0.1", "0.4")]
        expected = torch.stack([m / m.amax((2, 3), keepdim=True) for m in maps]).prod(0)
        assert torch.allclose(cls(net, ["0.1", "0.4"], merge="product").attribute(pictures, target=TARGETS), expected)
        with pytest.raises(ValueError, match="`merge` must be one of mean, product"):
            cls(net, ["0.1", "0.4"], merge="max")

    @pytest.mark.parametrize("name", ALL_CAMS)
    def test_mean_of_maps_scaled_to_their_maximum(self, name, net, pictures):
        cls = METHODS[name].build
        maps = [cls(net, layer).attribute(pictures, target=TARGETS) for layer in ("0.1", "0.4")]
        expected = sum(m / m.amax((2, 3), keepdim=True) for m in maps) / 2
        assert torch.allclose(cls(net, ["0.1", net[0][4]]).attribute(pictures, target=TARGETS), expected)

    def test_one_forward(self, net, pictures):
        method = build_method("gradcam", net, ["0.1", "0.4"])
        method.attribute(pictures, target=TARGETS)
        passes = []
        net.register_forward_hook(lambda *_: passes.append(1))
        method.attribute(pictures, target=TARGETS)
        assert len(passes) == 1

    def test_errors(self, net):
        with pytest.raises(ValueError, match="`upsample` must be True for several layers"):
            METHODS["gradcam"].build(net, ["0.1", "0.4"], upsample=False)
        with pytest.raises(ValueError, match="`layer` must name at least one layer"):
            build_method("gradcam", net, [])


class TestScoreCAM:
    def test_top_channels(self, net, pictures):
        """Channels not looked at get no weight; the rest are those that vary most."""
        few = ScoreCAM(net, "0", top_channels=3, upsample=False).attribute(pictures, target=TARGETS)
        every = ScoreCAM(net, "0", top_channels=8, upsample=False).attribute(pictures, target=TARGETS)
        assert torch.equal(every, ScoreCAM(net, "0", upsample=False).attribute(pictures, target=TARGETS))
        assert not torch.allclose(few, every)
        a, _ = activations_and_gradients(net, pictures)
        kept = np.sort(a.std((2, 3)).argsort(1)[:, -3:], 1)
        field = receptive_field(net, net[0], pictures)
        for i, target in enumerate(TARGETS):
            scores = []
            for k in kept[i]:
                mask = field.draw(torch.from_numpy(a[i, k])[None, None], (20, 24))
                mask = (mask - mask.min()) / (mask.max() - mask.min())
                scores.append(net(pictures[i : i + 1] * mask)[0, target])
            weights = torch.stack(scores).softmax(0).detach().numpy()
            expected = np.maximum(np.einsum("c,chw->hw", weights, a[i, kept[i]]), 0)
            assert few[i, 0].numpy() == pytest.approx(expected, abs=1e-12)

    def test_forward_passes(self, net, pictures):
        """One for the activations, one for the empty images, and as many as fit for the channels that vary."""
        explain_many(net, pictures, TARGETS, ["gradcam"], layer="0")  # measures how the layer's output is laid out
        rows = []
        net.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
        ScoreCAM(net, "0", top_channels=3, images_per_pass=4, align="half_pixel").attribute(pictures, target=TARGETS)
        assert rows == [2, 2, 4, 2]

    def test_errors(self, net):
        with pytest.raises(ValueError, match="`top_channels` must be at least 1"):
            ScoreCAM(net, top_channels=0)
        with pytest.raises(ValueError, match="`images_per_pass` must be at least 1"):
            ScoreCAM(net, images_per_pass=0)


class TestAblationCAM:
    def test_the_network_up_to_the_layer_runs_once_per_image(self, net, pictures):
        explain_many(net, pictures, TARGETS, ["gradcam"], layer="0")  # measures how the layer's output is laid out
        below, above = [], []
        net[0][0].register_forward_hook(lambda _, inputs, __: below.append(len(inputs[0])))
        net[1].register_forward_hook(lambda _, inputs, __: above.append(len(inputs[0])))
        AblationCAM(net, "0", align="half_pixel").attribute(pictures, target=TARGETS)
        assert below == [2, 1, 1]
        assert above == [2, 8, 8]

    @pytest.mark.parametrize("channels_per_pass", [1, 3])
    def test_a_layer_within_branches(self, channels_per_pass):
        """What is joined with a branch of one image (here by concatenation) is run from the input on."""

        class Branches(nn.Module):
            def __init__(self):
                super().__init__()
                self.left, self.right = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 2, 3, stride=2)
                self.head = nn.Linear(6, 3)

            def forward(self, x):
                return self.head(torch.cat([self.left(x).relu(), self.right(x).relu()], 1).amax((2, 3)))

        torch.manual_seed(0)
        net, x = Branches().double(), torch.randn(2, 3, 12, 12, dtype=torch.float64)
        ours = AblationCAM(net, "left", upsample=False, channels_per_pass=channels_per_pass).attribute(x, target=[0, 2])
        for i, target in enumerate([0, 2]):
            right = net.right(x[i : i + 1])

            def tail(a, target=target, right=right):
                both = torch.cat([torch.from_numpy(a)[None].relu(), right.relu()], 1)
                return net.head(both.amax((2, 3)))[0, target].item()

            expected = reference.ablationcam(tail, net.left(x[i : i + 1])[0].detach().numpy())
            assert ours[i, 0].numpy() == pytest.approx(expected, abs=1e-12)

    def test_a_model_that_counts_its_images(self):
        class Counts(nn.Module):
            def __init__(self):
                super().__init__()
                self.f, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

            def forward(self, x):
                return self.fc(self.f(x).view(len(x), 4, -1).mean(2))

        torch.manual_seed(0)
        model, x = Counts(), torch.randn(2, 3, 8, 8)
        ours = AblationCAM(model, "f", upsample=False).attribute(x, target=1)
        for i in range(2):

            def tail(a):
                return model.fc(torch.from_numpy(a).mean((1, 2)))[1].item()

            expected = reference.ablationcam(tail, model.f(x[i : i + 1])[0].detach().numpy())
            assert ours[i, 0].numpy() == pytest.approx(expected, abs=1e-5)


class TestExplainMany:
    def test_equals_one_by_one(self, net, pictures):
        names = ["layercam", "saliency", "gradcam", "eigencam", "gradcam_pp", "vjp"]
        many = explain_many(net, pictures, TARGETS, names, layer="0")
        assert list(many) == names
        for name in names:
            options = {"target": TARGETS} if METHODS[name].uses_target else {}
            assert torch.equal(many[name], build_method(name, net, "0").attribute(pictures, **options)), name

    @pytest.mark.filterwarnings("ignore:Guided Backprop passes through .* silu")  # SiLU has no rule
    @pytest.mark.parametrize("name", [*ALL_CAMS, "guided_gradcam"])
    def test_align(self, name, net, pictures):
        options = {"target": TARGETS} if METHODS[name].uses_target else {}
        method = build_method(name, net, "0")
        method.align = "half_pixel"
        cells = explain_many(net, pictures, TARGETS, [name], "0", align="half_pixel")[name]
        assert torch.equal(cells, method.attribute(pictures, **options))
        looked, default = (
            explain_many(net, pictures, TARGETS, [name], "0", align=a) for a in ("receptive_field", None)
        )
        assert torch.equal(looked[name], default[name])
        assert not torch.equal(cells, default[name])

    def test_one_forward_and_one_backward(self, net, pictures):
        explain_many(net, pictures, TARGETS, ["gradcam"], layer="0")  # measures where the layer looks
        passes = {"forward": 0, "backward": 0}
        net.register_forward_hook(lambda *_: passes.update(forward=passes["forward"] + 1))
        net[1].register_full_backward_hook(lambda *_: passes.update(backward=passes["backward"] + 1))
        explain_many(net, pictures, TARGETS, list(GRADIENT_CAMS), layer="0")
        assert passes == {"forward": 1, "backward": 1}

    def test_the_backward_pass_ends_at_the_layer(self, net, pictures):
        explain_many(net, pictures, TARGETS, ["gradcam"], layer="0")  # measures where the layer looks
        below = []
        net[0][0].register_full_backward_hook(lambda *_: below.append(1))
        explain_many(net, pictures, TARGETS, list(GRADIENT_CAMS), layer="0")
        assert not below

    def test_errors_and_empty(self, net, pictures):
        with pytest.raises(ValueError, match="`methods` must name at least one and none twice"):
            explain_many(net, pictures, TARGETS, ["gradcam", "gradcam"])
        with pytest.raises(ValueError, match="did you mean 'gradcam'"):
            explain_many(net, pictures, TARGETS, ["gradcan"])
        with pytest.raises(ValueError, match="`align` must be one of receptive_field, half_pixel"):
            explain_many(net, pictures, TARGETS, ["gradcam"], align="cells")
        assert explain_many(net, pictures[:0], 0, ["gradcam", "layercam"])["layercam"].shape == (0, 1, 20, 24)


class TestAdapters:
    def test_vargrad_is_the_variance(self, net, pictures):
        generator = torch.Generator().manual_seed(0)
        gradients = []
        for _ in range(6):
            noise = torch.randn(3, 20, 24, generator=generator).double()
            sigma = 0.15 * (pictures.flatten(1).amax(1) - pictures.flatten(1).amin(1)).view(-1, 1, 1, 1)
            gradients.append(Saliency(net).attribute(pictures + sigma * noise, target=TARGETS))
        ours = VarGrad(net, samples=6).attribute(pictures, target=TARGETS)
        assert torch.allclose(ours, torch.stack(gradients).var(0), atol=1e-12)
        with pytest.raises(ValueError, match="`samples` must be at least 2"):
            VarGrad(net, samples=1)

    def test_gradient_shap_is_exact_for_a_linear_model(self):
        """(x - b) w, whose mean over baselines around zero approaches x w."""
        linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
        x = torch.randn(3, 3, 2, 2, dtype=torch.float64)
        exact = x * linear[1].weight[1].view(3, 2, 2)
        assert torch.allclose(GradientSHAP(linear, noise=0).attribute(x, target=1), exact)
        assert torch.allclose(GradientSHAP(linear, samples=400).attribute(x, target=1), exact, atol=0.02)

    def test_gradient_shap_is_complete_on_average(self, net, pictures):
        total = GradientSHAP(net, samples=200, noise=0).attribute(pictures, target=TARGETS).sum((1, 2, 3))
        with torch.no_grad():
            gain = (net(pictures) - net(torch.zeros_like(pictures)))[range(2), TARGETS]
        assert torch.allclose(total, gain, atol=0.1)

    @pytest.mark.filterwarnings("ignore:Guided Backprop passes through .* silu")  # SiLU has no rule
    def test_guided_backprop_is_captums(self, net, pictures):
        with pytest.warns(UserWarning, match="Setting backward hooks"):
            expected = captum.GuidedBackprop(net).attribute(pictures.clone().requires_grad_(), target=TARGETS)
        assert torch.equal(GuidedBackprop(net).attribute(pictures, target=TARGETS), expected)

    @pytest.mark.filterwarnings("ignore:Guided Backprop passes through .* silu")  # SiLU has no rule
    def test_guided_gradcam_is_the_product(self, net, pictures):
        ours = GuidedGradCAM(net, "0").attribute(pictures, target=TARGETS)
        cam = build_method("gradcam", net, "0").attribute(pictures, target=TARGETS)
        assert torch.allclose(ours, GuidedBackprop(net).attribute(pictures, target=TARGETS) * cam)

    @pytest.mark.parametrize("cls", [GuidedBackprop, GuidedGradCAM])
    def test_nothing_to_guide(self, cls):
        with pytest.raises(ValueError, match=r"`forward_func` must hold torch.nn.ReLU modules.*'TinyCNN'"):
            cls(TinyCNN())

    @pytest.mark.parametrize("cls", [GuidedBackprop, DeepLift])
    def test_needs_a_module(self, cls):
        with pytest.raises(ValueError, match=r"`forward_func` must be a torch.nn.Module"):
            cls(abs)

    def test_deeplift_is_complete(self, pictures):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18 * 22, 3)).double()
        total = DeepLift(net).attribute(pictures, target=[1, 2]).sum((1, 2, 3))
        with torch.no_grad():
            gain = (net(pictures) - net(torch.zeros_like(pictures)))[range(2), [1, 2]]
        assert torch.allclose(total, gain)

    def test_occlusion_finds_the_pixel_that_matters(self):
        x = torch.ones(1, 3, 20, 20)
        score = Occlusion(lambda t: t[:, :, 4, 15].sum(1), window=0.1, stride=1.0).attribute(x)
        hot = (score[0, 0] > 0).nonzero()
        assert [4, 15] in hot.tolist()
        assert len(hot) == 4
        assert score.max() == 3

    def test_occlusion_needs_images(self):
        with pytest.raises(ValueError, match="`inputs` must be a floating-point tensor of shape"):
            Occlusion(lambda t: t).attribute(torch.zeros(2, 3))

    def test_rise_finds_the_object(self):
        """A model that reads one corner: masks that keep it score, so it is where the map is high."""

        def model(x):
            corner = x[:, :, :8, :8].mean((1, 2, 3))
            return torch.stack([8 * corner - 4, 4 - 8 * corner], 1)

        heatmap = RISE(model, masks=400, cells=4).attribute(torch.ones(2, 3, 32, 32), target=0)
        assert heatmap.shape == (2, 1, 32, 32)
        assert torch.equal(heatmap[0], heatmap[1])
        assert heatmap[0, 0, :8, :8].mean() > 0.05
        assert heatmap[0, 0, 16:, 16:].abs().mean() < 0.02

    def test_rise_is_flat_for_a_constant_model(self):
        """Every mask has the same weight .5, so the published map is .5 times the mean mask over p; ours is zero."""
        x, model = torch.ones(1, 3, 28, 28), lambda x: torch.zeros(len(x), 2)
        published = RISE(model, masks=2000, centered=False).attribute(x, target=0)
        assert published.mean().item() == pytest.approx(0.5, abs=0.01)
        assert (published - 0.5).abs().max() < 0.06
        assert RISE(model, masks=50).attribute(x, target=0).abs().max() < 1e-6

    def test_rise_is_the_weighted_mean_of_its_masks(self, net, pictures):
        masks = [m.double() for m in RISE(net, masks=12, cells=3)._draw(pictures)]
        with torch.no_grad():
            f = torch.stack([net(pictures * m).softmax(1)[range(2), TARGETS] for m in masks])
        for centered in (False, True):
            weights = f - f.mean(0) if centered else f
            expected = sum(w.view(2, 1, 1, 1) * m for w, m in zip(weights, masks, strict=True)) / (12 * 0.5)
            ours = RISE(net, masks=12, cells=3, centered=centered).attribute(pictures, target=TARGETS)
            assert torch.allclose(ours, expected, atol=1e-12)

    def test_rise_in_half_precision(self):
        """A thousand masks do not fit into a bfloat16 sum."""

        def model(x):
            score = 0.003 * x[..., :16].float().sum((1, 2, 3))
            return torch.stack([score, -score], 1).to(x.dtype)

        x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        exact, half = (
            RISE(model, masks=1000).attribute(x.to(d), target=0).float() for d in (torch.float32, torch.bfloat16)
        )
        assert torch.corrcoef(torch.stack([exact.flatten(), half.flatten()]))[0, 1] > 0.9

    def test_rise_without_classes_and_with_two_inputs(self):
        x = torch.ones(2, 3, 8, 8)
        assert RISE(lambda t: t.mean((1, 2, 3)), masks=10).attribute(x).shape == (2, 1, 8, 8)
        assert RISE(lambda t: t.mean((1, 2, 3)), masks=10).attribute(x[:0]).shape == (0, 1, 8, 8)
        with pytest.raises(ValueError, match="`inputs` must be one image tensor, but got 2"):
            RISE(lambda t, u: t).attribute((x, x), target=0)
        assert RISE.get_name() == "RISE"


@pytest.mark.parametrize("name", [*ALL_CAMS, "gradient_shap", "sib"])
def test_names(name, net):
    assert "CAM" in METHODS[name].build(net, "0").get_name() or name in ("gradient_shap", "sib")
    assert METHODS["gradient_shap"].build(net, "0").get_name() == "GradientSHAP"


PEER_NAMES = {
    "gradcam": "GradCAM",
    "gradcam_pp": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}


def _unit(values):
    return (values - values.min()) / (1e-7 + values.max() - values.min())


class TestPeers:
    """grad-cam 1.5.7 and torchcam 0.5: same network and layer, maps scaled alike (extra `reference`)."""

    @pytest.mark.parametrize("name", PEER_NAMES)
    def test_grad_cam(self, name, net, pictures):
        peers = pytest.importorskip("pytorch_grad_cam", reason="extra `reference` is not installed")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        # The peer adds 1e-6 to Grad-CAM++'s denominator, which matters for small gradients: make them large.
        net[1][4].weight.data *= 1000
        net[1][4].bias.data += 1e4  # the peer's Ablation-CAM is turned over where a score is negative
        peer = getattr(peers, PEER_NAMES[name])(model=net, target_layers=[net[0]])
        peer.batch_size = 8
        maps = peer(pictures, targets=[targets.ClassifierOutputTarget(t) for t in TARGETS])
        ours = self._aligned_scorecam(net, pictures) if name == "scorecam" else coarse(name, net, pictures)
        for theirs, our in zip(maps, ours, strict=True):
            # The peer scales, resizes with cv2 and scales again; do the same to ours.
            assert theirs == pytest.approx(_unit(cv2.resize(_unit(our), (24, 20)).astype(np.float32)), abs=1e-4)

    @staticmethod
    def _aligned_scorecam(net, pictures):
        """The paper's formula, but with masks enlarged corner to corner, which is how the peer does it."""

        def enlarge(channel):
            return F.interpolate(torch.from_numpy(channel)[None, None], (20, 24), mode="bilinear", align_corners=True)[
                0, 0
            ]

        def score(target):
            return lambda image: net(torch.from_numpy(image)[None])[0, target].item()

        a, _ = activations_and_gradients(net, pictures)
        with torch.no_grad():
            cases = zip(TARGETS, pictures.numpy(), a, strict=True)
            return [reference.scorecam(score(t), x, layer, lambda c: enlarge(c).numpy()) for t, x, layer in cases]

    def test_torchcam_gradcam(self, net, pictures):
        methods = pytest.importorskip("torchcam.methods", reason="extra `reference` is not installed")
        with methods.GradCAM(net, target_layer="0") as peer:
            (maps,) = peer(TARGETS, net(pictures.clone().requires_grad_()))
        ours = torch.from_numpy(coarse("gradcam", net, pictures))
        low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
        assert torch.allclose(maps, (ours - low) / (high - low), atol=1e-5)
