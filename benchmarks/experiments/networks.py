"""Networks of other families than TinyCNN, for 64 px images: the blocks are torchvision's, most widths a CPU's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock

from sibx import build_model


@dataclass(frozen=True)
class Family:
    """How an untrained network is built from the number of classes, and where S-IB takes its VJPs."""

    build: Callable[[int], nn.Module]
    layers: Mapping[str, float] | Literal["auto"] = "auto"


def thin_resnet(num_classes: int) -> nn.Module:
    """ResNet-18's blocks (ReLU, BatchNorm) at a quarter of its width; 8 x 8 positions in the last two stages."""
    stem = [nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    stages = ((16, 16, 1), (16, 32, 2), (32, 64, 1))
    blocks = [block for inside, outside, stride in stages for block in _stage(inside, outside, stride)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def _stage(inside: int, outside: int, stride: int) -> list[nn.Module]:
    shortcut = None
    if stride != 1 or inside != outside:
        shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
    return [BasicBlock(inside, outside, stride, shortcut), BasicBlock(outside, outside)]


def thin_convnext(num_classes: int) -> nn.Module:
    """ConvNeXt's blocks (GELU, LayerNorm, depthwise 7 x 7) in two stages; its head is not a linear layer on a mean."""
    settings = [CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)]
    return ConvNeXt(settings, num_classes=num_classes)


NETWORKS = {
    # of the other studies (SiLU, BatchNorm), 16 x 16 positions
    "tiny_cnn": Family(partial(build_model, "tiny_cnn")),
    "thin_resnet": Family(thin_resnet),
    "thin_convnext": Family(thin_convnext),
    # As published; of 64 px its last two stages leave 4 x 4 and 2 x 2 positions, too few for a mask.
    "resnet18": Family(partial(build_model, "resnet18"), {"layer2": 1.0}),
}
