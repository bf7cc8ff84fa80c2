"""Networks of many families with random weights, at their own image size: of torchvision, timm and transformers."""

from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sibx import build_model

CLASSES = 10
TORCHVISION = {
    **dict.fromkeys(("resnet18", "densenet121", "vgg11", "squeezenet1_1", "mobilenet_v3_small"), 224),
    **dict.fromkeys(("shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "convnext_tiny", "swin_t"), 224),
    **{"swin_v2_t": 256, "maxvit_t": 224, "googlenet": 224, "inception_v3": 299, "alexnet": 224, "vit_b_32": 224},
}
TIMM = (
    *("beit_base_patch16_224", "botnet26t_256", "caformer_s18", "cait_xxs24_224", "coat_lite_tiny", "coat_tiny"),
    *("coatnet_pico_rw_224", "convit_tiny", "convmixer_768_32", "convnext_atto", "convnextv2_atto"),
    *("crossvit_tiny_240", "davit_tiny", "deit3_small_patch16_224", "deit_tiny_distilled_patch16_224", "densenet121"),
    *("deit_tiny_patch16_224", "dla34", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0"),
    *("efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224", "fastvit_t8", "focalnet_tiny_srf"),
    *("gcvit_xxtiny", "ghostnet_050", "gmixer_12_224", "gmlp_ti16_224", "halonet26t", "hiera_tiny_224"),
    *("hrnet_w18_small", "inception_resnet_v2", "inception_v3", "levit_128s", "mambaout_femto"),
    *("maxvit_rmlp_pico_rw_256", "mixer_s32_224", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobilevit_xxs"),
    *("mobilevitv2_050", "mvitv2_tiny", "nest_tiny", "nextvit_small", "nfnet_l0", "pit_ti_224", "poolformer_s12"),
    *("pvt_v2_b0", "rdnet_tiny", "regnetx_002", "repvgg_a0", "repvit_m1", "res2net50_26w_4s", "resmlp_12_224"),
    *("rexnet_100", "sequencer2d_s", "starnet_s1", "swiftformer_xs", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "tiny_vit_5m_224", "tnt_s_patch16_224", "twins_pcpvt_small", "vgg11"),
    *("visformer_tiny", "vit_tiny_patch16_224", "volo_d1_224", "xcit_nano_12_p16_224"),
)
SMALLER = {  # with four blocks; DINOv2 is published for images of 518 px
    "vit_small_patch14_dinov2": 224,
    "vit_small_patch14_reg4_dinov2": 224,
    "vit_base_patch16_siglip_224": 224,
}

TOKENS = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
INSIDE = {"vision_config": TOKENS}
WIDTHS = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
WINDOWS = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
PYRAMID = {"hidden_sizes": [16, 32, 80, 64], "depths": [1, 1, 1, 1]}
AS_PUBLISHED: dict[str, Any] = {}
TRANSFORMERS: dict[str, dict[str, Any]] = {  # types of configurations, and what is smaller than usual
    **dict.fromkeys(("vit", "deit", "beit", "data2vec-vision", "dinov2", "dinov2_with_registers"), TOKENS),
    **dict.fromkeys(("vit_msn", "ijepa"), TOKENS),
    **dict.fromkeys(("clip", "siglip", "metaclip_2"), INSIDE),
    **dict.fromkeys(("swin", "swinv2", "donut-swin", "hiera"), WINDOWS),
    **dict.fromkeys(("convnext", "convnextv2", "poolformer", "resnet", "regnet"), WIDTHS),
    **dict.fromkeys(("pvt_v2", "segformer"), PYRAMID),
    **dict.fromkeys(("hgnet_v2", "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "pp_lcnet"), AS_PUBLISHED),
    "bit": {"depths": [1, 1, 1, 1]},
    "cvt": {"depth": [1, 2, 3]},
    "efficientnet": {"width_coefficient": 0.5, "depth_coefficient": 1.0, "hidden_dim": 640, "image_size": 224},
    "focalnet": {"embed_dim": 24, "depths": [1, 1, 2, 1]},
    "levit": {"depths": [2, 2, 2]},
    "pvt": {"depths": [1, 1, 1, 1]},
    "swiftformer": {"depths": [1, 1, 2, 1]},
    "textnet": {"image_size": 224},
    "timm_wrapper": {"architecture": "resnet18"},
}


class Network(NamedTuple):
    """A network that can be built, and the side of its images in pixels."""

    library: str
    name: str
    build: Callable[[], nn.Module]
    side: int


def networks() -> Iterator[Network]:
    """Yield the networks of the libraries that are installed."""
    for of_library in (of_torchvision, of_timm, of_transformers):
        try:
            yield from of_library()
        except ImportError as error:
            print(error)


def of_torchvision() -> Iterator[Network]:
    """Yield networks of torchvision."""
    from torchvision.models import get_model

    for name, side in TORCHVISION.items():
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        yield Network("torchvision", name, partial(get_model, name, weights=None, num_classes=CLASSES, **options), side)


def of_timm() -> Iterator[Network]:
    """Yield networks of timm."""
    import timm

    for name in TIMM:
        settings: Any = timm.get_pretrained_cfg(name)
        yield Network("timm", name, partial(build_model, f"timm/{name}", CLASSES), settings.input_size[-1])
    for name, side in SMALLER.items():
        build = partial(timm.create_model, name, num_classes=CLASSES, img_size=side, depth=4)
        yield Network("timm", name, build, side)


def of_transformers() -> Iterator[Network]:
    """Yield networks of transformers."""
    from transformers import AutoConfig

    for kind, options in TRANSFORMERS.items():
        settings: Any = AutoConfig.for_model(kind, **options)
        holders = (settings, getattr(settings, "vision_config", None))
        sizes = (getattr(holder, "image_size", None) for holder in holders)
        size = next((s for s in sizes if s), 224)
        side = size if isinstance(size, int) else size[0]
        yield Network("transformers", kind, partial(_from_settings, settings), side)


def _from_settings(settings: Any) -> nn.Module:
    """Build a network of transformers as users of sibx do: from a folder."""
    with TemporaryDirectory() as folder:
        settings.save_pretrained(folder)
        return build_model(f"hf/{folder}", CLASSES)


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the model in eval mode, with random weights that say something about the images.

    Heads and the ends of residual branches may start at zero: no score depends on what lies before them, and their
    weights are drawn. With the statistics that a BatchNorm starts with (0 and 1), features fade from layer to layer,
    until LeViT's attention is the same for all cells and so is its last map: BatchNorm gets those of the images.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches, of which there is one
            module.train()
    with torch.no_grad():
        model(images)
    return model.eval()
