"""Networks of other libraries at their own size: layers nobody named, layouts that are not (B, C, h, w), fall-backs."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from sibx.attribution import EigenCAM, GradCAM
from sibx.models import find_cam_layer
from sibx.objectives import SIBConfig, SIBLoss

timm = pytest.importorskip("timm", reason="needs the extra timm")


def build(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=4, **options).eval()


def pictures(count, side):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_small_pictures_get_a_finer_layer():
    """At 32 px the last stage of a ResNet is a single cell."""
    torch.manual_seed(0)
    net, x = resnet18(num_classes=4).eval(), pictures(2, 32)
    assert find_cam_layer(net, 32) == "layer3"
    maps = GradCAM(net, upsample=False).attribute(x, 1)
    assert maps.shape == (2, 1, 2, 2)
    assert torch.equal(maps, GradCAM(net, "layer3", upsample=False).attribute(x, 1))


def test_a_transformer_of_one_size():
    net, x = build("vit_tiny_patch16_224", depth=2), pictures(2, 224)
    found = GradCAM(net).attribute(x, 1)
    assert torch.equal(found, GradCAM(net, "blocks.1.norm1").attribute(x, 1))
    masks = torch.zeros(2, 1, 224, 224, dtype=torch.bool)
    masks[..., 64:128, 64:160] = True
    terms = SIBLoss(SIBConfig.recommended("given"))(net, x, torch.tensor([0, 1]), masks)
    assert terms.vjp.shape[2:] == (14, 14)
    assert terms.total.isfinite()


def test_channels_last():
    """Swin's last layer outputs (B, h, w, C); Grad-CAM by hand on it."""
    net, x = build("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), pictures(1, 224)
    outputs = []
    handle = net.norm.register_forward_hook(lambda _, __, output: outputs.append(output))
    score = net(x)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, outputs)
    a, g = (t.permute(0, 3, 1, 2) for t in (outputs[0], gradient))
    grid = (g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True).relu().detach()
    assert torch.allclose(GradCAM(net, "norm", upsample=False).attribute(x, 1), grid, atol=1e-6)
    drawn = F.interpolate(grid, (224, 224), mode="bilinear")
    found = GradCAM(net, "norm", align="half_pixel").attribute(x, 1)
    assert torch.allclose(found, drawn, atol=1e-5 * float(drawn.max()))


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmixer_12_224"])
def test_tokens_without_attention(name):
    assert find_cam_layer(build(name), 224) == "norm"


def test_one_map_per_image():
    """MobileViT's transformers see 4 rows per image."""
    net, x = build("mobilevit_xxs"), pictures(2, 64)
    assert GradCAM(net).attribute(x, 1).shape == (2, 1, 64, 64)
    for cls in (GradCAM, EigenCAM):
        with pytest.raises(ValueError, match="must output one row for each of the 2 images, but got"):
            cls(net, "stages.4.1.norm").attribute(x, 1)


def test_units_that_look_everywhere_lie_in_equal_cells():
    net, x = build("caformer_s18"), pictures(1, 224)
    with pytest.warns(UserWarning, match="Units are taken to lie in equal cells of the image"):
        found = GradCAM(net).attribute(x, 1)
    assert torch.equal(found, GradCAM(net, align="half_pixel").attribute(x, 1))
