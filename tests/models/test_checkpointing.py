"""Activation checkpointing: parts of a model run again in the backward pass, and results are those without it."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

from sibx import SIBAttribution, vjp
from sibx.attribution import METHODS, GradCAM, build_method
from sibx.models import TinyCNN, find_cam_layer, receptive_field
from sibx.objectives import GUIDANCE, GradNorm, GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss


class Convolutions(nn.Module):
    """TinyCNN with its features in one checkpoint or in none."""

    def __init__(self, saves):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.saves = TinyCNN(num_classes=5, width=8), saves

    def forward(self, images):
        features = self.net.features
        maps = checkpoint(features, images, use_reentrant=False) if self.saves else features(images)
        return self.net.classifier(maps.mean((2, 3)))


class Saving(nn.Module):
    """A block in a checkpoint."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, tokens):
        return checkpoint(self.block, tokens, use_reentrant=False)


def transformer(saves):
    torch.manual_seed(0)
    net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5)
    nn.init.normal_(net.heads.head.weight)  # torchvision starts it at zero
    layers = net.encoder.layers
    net.encoder.layers = nn.Sequential(*(Saving(b) if saves else nn.Sequential(b) for b in layers))
    return net


# A network, and a layer in the middle of a checkpoint; Saving holds its block as "block", Sequential as "0".
NETS = {
    "convolutions": (Convolutions, "net.features.7", "net.features.7"),
    "transformer": (transformer, "encoder.layers.1.0.ln_1", "encoder.layers.1.block.ln_1"),
}
LOSSES = {
    "published script": lambda _: SIBLoss(SIBConfig.published_script()),
    "recommended": lambda layer: SIBLoss(SIBConfig.recommended("given", layers={layer: 1.0})),
    "auto": lambda _: SIBLoss(SIBConfig.recommended("given")),
    "online": lambda layer: SIBLoss(SIBConfig(layers={layer: 1.0}, cotangent="logit")),
    "balanced": lambda _: SIBLoss(SIBConfig(balance=GradNorm())),
    **{name: lambda _, name=name: GuidanceLoss(GuidanceConfig(name, weight=1.0)) for name in GUIDANCE},
}


@pytest.fixture(params=NETS)
def pair(request):
    """The network without and with checkpoints, each with the name of its layer."""
    build, *layers = NETS[request.param]
    return [(build(saves).eval(), layer) for saves, layer in zip((False, True), layers, strict=True)]


def kernels():
    return torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()


NEED_RULES = ("guided_backprop", "guided_gradcam", "deeplift", "lrp")  # TinyCNN has no rule of theirs
DIFFERENTIATE = {s.name: s.kind for s in METHODS.values() if s.kind in ("attention", "cam", "gradient")}
DIFFERENTIATE = {
    name: kind for name, kind in DIFFERENTIATE.items() if name not in NEED_RULES and not METHODS[name].needs_fit
}


@pytest.mark.parametrize("name", DIFFERENTIATE)
def test_maps(name, images):
    target = {"target": 1} if METHODS[name].uses_target else {}
    build = transformer if DIFFERENTIATE[name] == "attention" else Convolutions
    plain, saving = (build_method(name, build(saves).eval()).attribute(images, **target) for saves in (0, 1))
    assert torch.allclose(plain, saving, atol=1e-6)


@pytest.mark.parametrize("align", ["receptive_field", "half_pixel"])
def test_a_layer_within(align, pair, images):
    plain, saving = (GradCAM(net, layer, align=align).attribute(images, 1) for net, layer in pair)
    assert torch.allclose(plain, saving, atol=1e-6)
    assert plain.max() > 0


def test_layers_are_found_and_measured(pair, images):
    names = [find_cam_layer(net, images) for net, _ in pair]
    assert names[1].replace(".block", ".0") == names[0]
    plain, saving = (receptive_field(net, net.get_submodule(layer), images) for net, layer in pair)
    assert plain == saving


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, pair, images):
    masks, labels, found = torch.zeros(4, 1, 32, 32, dtype=torch.bool), torch.arange(4), []
    masks[..., 4:20, 4:20] = True
    for net, layer in pair:
        torch.manual_seed(1)
        total = LOSSES[name](layer)(net, images, labels, masks).total
        total.backward()
        gradients = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in net.parameters()]
        found.append((total.detach(), torch.cat(gradients)))
    (loss, gradient), (saved_loss, saved_gradient) = found
    assert torch.allclose(loss, saved_loss)
    assert torch.allclose(gradient, saved_gradient, atol=float(1e-5 * gradient.abs().max()))


@pytest.mark.parametrize(
    "run",
    [
        lambda net, _, x: SIBAttribution(net, create_graph=True).attribute(x, 1),
        lambda net, layer, x: SIBAttribution(net, layer=layer, create_graph=True).attribute(x, 1),
        lambda net, layer, x: GradCAM(net, layer, create_graph=True).attribute(x, 1),
        lambda net, _, x: vjp(net, x, create_graph=True).map,
        lambda net, _, x: vjp(net, x, create_graph=True).logits,
    ],
)
def test_maps_in_a_loss(run, pair, images):
    gradients = []
    for net, layer in pair:
        run(net, layer, images).square().sum().backward()
        gradients.append(next(net.parameters()).grad)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-6 * float(gradients[0].abs().max()))


def test_kernels_of_attention_come_back(images):
    net, masks = transformer(saves=True), torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    masks[..., 4:20, 4:20] = True
    before = kernels()

    def loss():
        return SIBLoss(SIBConfig.recommended("given"))(net, images, torch.arange(4), masks).total

    seen = []
    handle = net.conv_proj.weight.register_hook(lambda _: seen.append(kernels()))
    loss().backward()
    assert kernels() == before
    assert set(seen) == {(False, False)}
    handle.remove()

    def stop(_):
        raise InterruptedError

    handle = net.conv_proj.weight.register_hook(stop)
    with pytest.raises(InterruptedError):
        loss().backward()
    handle.remove()
    assert kernels() == before
