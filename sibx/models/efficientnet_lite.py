"""EfficientNet-Lite 0 to 2: inverted residual blocks with ReLU6, without squeeze-and-excitation.

Source: Tan and Le, EfficientNet, ICML 2019, arXiv 1905.11946; the Lite variants are TensorFlow's of 2020,
github.com/tensorflow/tpu, models/official/efficientnet/lite.
"""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import require

STEM, HEAD = 32, 1280  # channels of the first and of the last convolution, which no variant scales
EPSILON = 1e-3  # of every BatchNorm, as in TensorFlow


class Stage(NamedTuple):
    """Blocks of one width; the first of them has the stride."""

    expansion: int
    channels: int
    blocks: int
    kernel: int
    stride: int


STAGES = (
    Stage(expansion=1, channels=16, blocks=1, kernel=3, stride=1),
    Stage(expansion=6, channels=24, blocks=2, kernel=3, stride=2),
    Stage(expansion=6, channels=40, blocks=2, kernel=5, stride=2),
    Stage(expansion=6, channels=80, blocks=3, kernel=3, stride=2),
    Stage(expansion=6, channels=112, blocks=3, kernel=5, stride=1),
    Stage(expansion=6, channels=192, blocks=4, kernel=5, stride=2),
    Stage(expansion=6, channels=320, blocks=1, kernel=3, stride=1),
)


class Variant(NamedTuple):
    """How a variant scales the channels and the blocks of the stages, and the images that it was trained on."""

    width: float
    depth: float
    image_size: int
    dropout: float


VARIANTS = {
    "efficientnet_lite0": Variant(width=1.0, depth=1.0, image_size=224, dropout=0.2),
    "efficientnet_lite1": Variant(width=1.0, depth=1.1, image_size=240, dropout=0.2),
    "efficientnet_lite2": Variant(width=1.1, depth=1.2, image_size=260, dropout=0.3),
}


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite; ``features`` maps images to (B, 1280, ceil(H / 32), ceil(W / 32)), ``classifier`` is the head.

    ``features.0`` is the stem, ``features.1`` and those behind it are the blocks, the last one is a 1 x 1 convolution.
    TensorFlow pads an even side more at its end, so that the place where a unit looks depends on the image's size: unit
    (i, j) around pixel 32 (i, j) + 31 at 224 pixels, 32 (i, j) + 15 at 240 and 32 (i, j) at 225. ``receptive_field``
    measures it. No block is skipped at random during training.

    Args:
        num_classes: number of classes K.
        variant: width, depth, image size and dropout; one of VARIANTS, or your own.

    Input (B, 3, H, W) of any size; output logits (B, K).

    Attributes:
        image_size: side of the images that the variant was trained on, in pixels.

    Example:
        >>> model = EfficientNetLite(num_classes=5).eval()
        >>> model(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 5])
        >>> receptive_field(model, model.features, torch.rand(1, 3, 225, 225))
        ReceptiveField(stride=(32.0, 32.0), offset=(0.0, 0.0))
    """

    def __init__(self, num_classes: int = 1000, variant: Variant = VARIANTS["efficientnet_lite0"]):
        super().__init__()
        self.image_size = variant.image_size
        layers: list[nn.Module] = [nn.Sequential(*_convolution(3, STEM, kernel=3, stride=2))]
        inside = STEM
        for index, stage in enumerate(STAGES):
            is_scaled = 0 < index < len(STAGES) - 1
            outside = scale_channels(stage.channels, variant.width)
            for block in range(ceil(stage.blocks * variant.depth) if is_scaled else stage.blocks):
                stride = 1 if block else stage.stride
                layers.append(InvertedResidual(inside, outside, stage.expansion, stage.kernel, stride))
                inside = outside
        self.features = nn.Sequential(*layers, nn.Sequential(*_convolution(inside, HEAD)))
        self.classifier = nn.Sequential(nn.Dropout(variant.dropout), nn.Linear(HEAD, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He's rule by the outputs of a group
                outputs = module.out_channels * module.kernel_size[0] ** 2 / module.groups
                nn.init.normal_(module.weight, std=(2 / outputs) ** 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """Widen by 1 x 1, filter every channel on its own, narrow by 1 x 1; the input is added where the shape stays."""

    def __init__(self, inside: int, outside: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inside * expansion
        widen = _convolution(inside, wide) if expansion > 1 else []
        filtered = _convolution(wide, wide, kernel, stride, groups=wide)
        *narrow, _ = _convolution(wide, outside)  # without an activation
        self.layers = nn.Sequential(*widen, *filtered, *narrow)
        self.is_residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outside, ceil(H / stride), ceil(W / stride))."""
        change: Tensor = self.layers(x)
        return x + change if self.is_residual else change


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ceil(size / stride) outputs; an odd padding has more at the end.

    With an even side and stride 2, unit i of a 3 x 3 kernel so looks around pixel 2 i + 1; with an odd side around 2 i.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        (top, bottom), (left, right) = (self._pad(axis, x.shape[2 + axis]) for axis in (0, 1))
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _pad(self, axis: int, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _convolution(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, normalization and activation."""
    if stride > 1:
        convolution: nn.Module = SameConv2d(inside, outside, kernel, stride, groups=groups, bias=False)
    else:
        convolution = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outside, eps=EPSILON), nn.ReLU6()]


def scale_channels(channels: int, width: float) -> int:
    """Scale to the nearest multiple of 8, or the next one where rounding down would lose more than a tenth."""
    scaled = channels * width
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * scaled else nearest + 8


def rename_in_order(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a state dict the model's names, in the order in which they stand.

    Args:
        state: state dict of the same architecture under other names.
        model: the model; its own tensors stay as they are.

    Raises:
        ValueError: the numbers of tensors differ, or a tensor's shape or the last part of its name (``weight``,
            ``running_mean``) is not that of the model's tensor at the same place.
    """
    own = model.state_dict()
    require(len(state) == len(own), "state", f"hold the {len(own)} tensors of the model", len(state))
    for (name, tensor), (own_name, own_tensor) in zip(state.items(), own.items(), strict=True):
        role = own_name.rpartition(".")[2]
        fits = name.rpartition(".")[2] == role and tensor.shape == own_tensor.shape
        rule = f"hold a {role} of shape {tuple(own_tensor.shape)} for {own_name}"
        require(fits, "state", rule, f"{name} of shape {tuple(tensor.shape)}")
    return dict(zip(own, state.values(), strict=True))
