"""Which layer is found in networks of all kinds, and is Grad-CAM there what plain autograd says?

Every network has random weights and its own image size. ``find_cam_layer`` names a layer; Grad-CAM of sibx on the
layer's own grid is compared with a few lines of autograd around a forward hook, which know nothing of sibx but the
layer's name, and of which axes are channels only what the table of layouts says. Transformers' networks are built from
small configurations.

    python benchmarks/experiments/architectures.py --out benchmarks/experiments

Some ten minutes of one core; writes ``architectures.csv`` and ``architectures.md``.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx.attribution import GradCAM
from sibx.models import find_cam_layer, receptive_field, resolve_layer, to_grid

CLASSES, ALIKE = 10, 0.9995
SHOWN = ("library", "network", "pixels", "layer", "grid", "stride", "offset", "correlation", "seconds")
COLUMNS = (*SHOWN, "units", "refused")  # why the units cannot be measured; why there is no layer
LAST = ("swin", "nest", "sequencer", "mambaout")  # networks of timm whose last map has its channels last
TORCHVISION = {
    **dict.fromkeys(("resnet18", "densenet121", "vgg11", "squeezenet1_1", "mobilenet_v3_small"), 224),
    **dict.fromkeys(("shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "convnext_tiny", "swin_t"), 224),
    **{"swin_v2_t": 256, "maxvit_t": 224, "googlenet": 224, "inception_v3": 299, "alexnet": 224, "vit_b_32": 224},
}
TIMM = (
    *("beit_base_patch16_224", "botnet26t_256", "caformer_s18", "cait_xxs24_224", "coat_lite_tiny", "coat_tiny"),
    *("coatnet_pico_rw_224", "convmixer_768_32", "convnext_atto", "convnextv2_atto", "crossvit_tiny_240", "davit_tiny"),
    *("deit3_small_patch16_224", "deit_tiny_distilled_patch16_224", "densenet121", "dla34", "edgenext_xx_small"),
    *("efficientformer_l1", "efficientformerv2_s0", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224"),
    *("fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050", "gmixer_12_224", "gmlp_ti16_224"),
    *("halonet26t", "hiera_tiny_224", "hrnet_w18_small", "inception_resnet_v2", "inception_v3", "levit_128s"),
    *("mambaout_femto", "maxvit_rmlp_pico_rw_256", "mixer_s32_224", "mobilenetv3_small_050", "mobilenetv4_conv_small"),
    *("mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny", "nest_tiny", "nextvit_small", "nfnet_l0", "pit_ti_224"),
    *("poolformer_s12", "pvt_v2_b0", "rdnet_tiny", "regnetx_002", "repvgg_a0", "repvit_m1", "res2net50_26w_4s"),
    *("resmlp_12_224", "rexnet_100", "sequencer2d_s", "starnet_s1", "swiftformer_xs", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "tiny_vit_5m_224", "tnt_s_patch16_224", "twins_pcpvt_small", "vgg11"),
    *("visformer_tiny", "vit_tiny_patch16_224", "volo_d1_224", "xcit_nano_12_p16_224"),
)
SMALLER = {  # published for images of 518 px
    "vit_small_patch14_dinov2": 224,
    "vit_small_patch14_reg4_dinov2": 224,
    "vit_base_patch16_siglip_224": 224,
}
Built = tuple[str, str, Callable[[], nn.Module], int]  # library, name, builder, side of the images


class Logits(nn.Module):
    """A network of transformers as images -> logits."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.network(images).logits
        return logits


def networks() -> Iterator[Built]:
    """Yield what is installed."""
    from torchvision import models as tv

    for name, side in TORCHVISION.items():
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        yield "torchvision", name, partial(tv.get_model, name, weights=None, num_classes=CLASSES, **options), side
    try:
        import timm
    except ImportError:
        print("timm is not installed")
    else:
        for name in TIMM:
            settings: Any = timm.get_pretrained_cfg(name)
            side = settings.input_size[-1]
            yield "timm", name, partial(timm.create_model, name, num_classes=CLASSES), side
        for name, side in SMALLER.items():
            build = partial(timm.create_model, name, num_classes=CLASSES, img_size=side, depth=4)
            yield "timm", name, build, side
    yield from from_configurations()


def from_configurations() -> Iterator[Built]:
    """Yield small networks of transformers."""
    try:
        import transformers as hf
    except ImportError:
        print("transformers is not installed")
        return
    small = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    tokens: dict[str, Any] = small | {"image_size": 64, "patch_size": 8, "num_labels": CLASSES}
    stages: dict[str, Any] = {"num_labels": CLASSES, "image_size": 64}
    configurations: dict[str, dict[str, Any]] = {
        "ViT": tokens,
        "DeiT": tokens,
        "Beit": tokens,
        "Dinov2": tokens,
        "Dinov2WithRegisters": tokens,
        "Swin": stages | {"embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4},
        "Swinv2": stages | {"embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4},
        "ConvNext": {"num_labels": CLASSES, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]},
        "ResNet": {"num_labels": CLASSES, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]},
        "PoolFormer": {"num_labels": CLASSES, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]},
    }
    for name, options in configurations.items():
        if hasattr(hf, f"{name}ForImageClassification"):
            yield "transformers", name, partial(_build, hf, name, options), 64


def _build(hf: Any, name: str, options: dict[str, Any]) -> nn.Module:
    return Logits(getattr(hf, f"{name}ForImageClassification")(getattr(hf, f"{name}Config")(**options)))


def plain_gradcam(model: nn.Module, name: str, images: Tensor, target: int, channels_last: bool) -> Tensor:
    """Return Grad-CAM (B, h, w) by a hook and autograd."""
    module, _, function = name.partition(":")
    seen: list[Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, __, output: seen.append(output))
    with _seen_behind(function, seen) if function else nullcontext():
        score = model(images.requires_grad_())[:, target].sum()
    handle.remove()
    activations, gradients = seen[-1], torch.autograd.grad(score, seen[-1])[0]
    if channels_last:
        activations, gradients = (t.permute(0, 3, 1, 2) for t in (activations, gradients))
    a, g = (to_grid(t, (images.shape[2], images.shape[3])) for t in (activations, gradients))
    return (a * g.mean((2, 3), keepdim=True)).sum(1).relu().detach()


@contextmanager
def _seen_behind(function: str, seen: list[Tensor]) -> Iterator[None]:
    """Within the block, what the function makes of the tensor seen last is seen, too."""
    plain = getattr(F, function)

    def watched(x: Tensor, *_: Any, **__: Any) -> Tensor:
        result: Tensor = plain(x)
        if seen and x is seen[-1]:
            seen.append(result)
        return result

    with patch.object(F, function, watched):
        yield


def without_zeros(model: nn.Module) -> nn.Module:
    """Draw weights that start at zero (heads, ends of residual branches), behind which no score depends on anything."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def measure(library: str, name: str, model: nn.Module, side: int) -> dict[str, Any]:
    """Return one line of the table."""
    images = torch.randn(2, 3, side, side)
    line: dict[str, Any] = {"library": library, "network": name, "pixels": side}
    start = time.perf_counter()
    layer = find_cam_layer(model, images)
    line |= {"layer": layer, "seconds": round(time.perf_counter() - start, 2)}
    last = library == "timm" and name.startswith(LAST)
    for target in range(CLASSES):
        plain = plain_gradcam(model, layer, images.clone(), target, last)
        if bool((plain.flatten(1).std(1) > 0).all()):
            break
    ours = GradCAM(model, upsample=False).attribute(images, target)[:, 0]
    pairs = torch.stack([ours.flatten(1), plain.flatten(1)], 1)
    line |= {
        "grid": f"{ours.shape[1]} x {ours.shape[2]}",
        "correlation": min(float(torch.corrcoef(pair.double())[0, 1]) for pair in pairs),
    }
    try:
        field = receptive_field(model, resolve_layer(model, layer), images)
        line |= {"stride": f"{field.stride[0]:g}", "offset": f"{field.offset[0]:g}"}
    except ValueError as error:
        line["units"] = str(error)
    return line


def main(out: Path, only: str = "") -> None:
    """Write the tables.

    Args:
        out: folder for ``architectures.csv`` and ``architectures.md``.
        only: part of the names of the networks to measure; all by default.
    """
    torch.set_num_threads(1)
    lines = []
    for library, name, build, side in networks():
        if only in f"{library}/{name}":
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the half-pixel fallback: the table has a column for it
                try:
                    lines.append(measure(library, name, without_zeros(build()).eval(), side))
                except Exception as error:  # a ValueError is a clear refusal, anything else is not
                    reason = f"{type(error).__name__}: {error}"
                    lines.append({"library": library, "network": name, "pixels": side, "refused": reason})
            print(lines[-1], flush=True)
            write(pd.DataFrame(lines), out)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write what is measured so far."""
    table = table.reindex(columns=list(COLUMNS))
    table.to_csv(out / "architectures.csv", index=False, float_format="%.6f")
    found = table[table["layer"].notna()]
    alike = int((found["correlation"] > ALIKE).sum())
    head = f"""# The layer that is found

{len(table)} networks with random weights, at their own image size: a layer is found in {len(found)}, and Grad-CAM
there is that of plain autograd (correlation above {ALIKE}) in {alike}. Stride and offset say where the units look, in
pixels; where there is none, CAMs are drawn in equal cells. Seconds: one look-up, on one thread of a machine that did
other work, too; nan: a map is constant there, for every class, and nothing could be compared. `architectures.py`
made this table.

"""
    (out / "architectures.md").write_text(head + _markdown(table) + "\n", encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    layers = zip(table["layer"], table["refused"], strict=True)
    rows = table.assign(
        layer=[f"`{layer}`" if isinstance(layer, str) else f"refused: {reason}" for layer, reason in layers],
        correlation=table["correlation"].map("{:.3f}".format),
    )
    cells = rows[list(SHOWN)].fillna("").astype(str).to_numpy().tolist()
    return "\n".join("| " + " | ".join(line) + " |" for line in [SHOWN, ["---"] * len(SHOWN), *cells])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
