"""Of every family of networks a small one: the layer that is found holds a map, and Grad-CAM is plain autograd's."""

import pytest
import torch

from sibx.models import find_cam_layer

TORCHVISION = ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "densenet121")
TIMM = (
    *("vit_tiny_patch16_224", "mixer_s32_224", "gmlp_ti16_224", "levit_128s", "pit_ti_224", "crossvit_tiny_240"),
    *("cait_xxs24_224", "convit_tiny"),
    *("xcit_nano_12_p16_224", "mobilevit_xxs", "efficientvit_b0", "efficientvit_m0", "convnext_atto", "ghostnet_050"),
    *("mambaout_femto", "starnet_s1", "hrnet_w18_small", "pvt_v2_b0", "vit_small_patch14_dinov2"),
)
TRANSFORMERS = (
    *("vit", "deit", "beit", "dinov2_with_registers", "swin", "swinv2", "donut-swin", "hiera", "focalnet", "siglip"),
    *("convnext", "resnet", "poolformer", "cvt", "segformer", "levit", "pvt_v2"),
)
SMALL = [
    *(("torchvision", name) for name in TORCHVISION),
    *(("timm", name) for name in TIMM),
    *(("transformers", name) for name in TRANSFORMERS),
]


@pytest.fixture
def built(script):
    """Builds a network of ``benchmarks/experiments/families.py``, and images for it."""

    def build(library, name):
        pytest.importorskip(library)
        networks = getattr(script("families"), f"of_{library}")()
        network = next(n for n in networks if n.name == name)
        return network, *script("architectures").build(network)

    return build


@pytest.mark.parametrize(("library", "name"), SMALL, ids=map("/".join, SMALL))
def test_grad_cam_is_plain_autograds(library, name, built, script):
    network, model, images = built(library, name)
    ours, plain = script("architectures").grad_cams(network, model, find_cam_layer(model, images), images)
    assert ours.shape == plain.shape
    assert len(ours) == len(images)
    assert min(ours.shape[1:]) > 1
    assert (plain.flatten(1).std(1) > 0).all()
    for pair in torch.stack([ours.flatten(1), plain.flatten(1)], 1).double():
        assert torch.corrcoef(pair)[0, 1] > 1 - 1e-4
        assert torch.allclose(*pair, atol=1e-3 * pair.max())


def test_refused(built):
    """A classifier of transformers that calls its scores otherwise says so."""
    with pytest.raises(ValueError, match="`scores` must be one of last_hidden_state, but got 'logits'"):
        built("transformers", "pp_lcnet")
