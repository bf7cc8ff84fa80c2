"""A small CNN that trains in a minute on a CPU."""

from torch import Tensor, nn

from sibx._checks import check_choice


class TinyCNN(nn.Module):
    """Four convolutions, global average pooling, one linear layer; 62k parameters at width 16.

    The first convolution and a max pooling bring 64 px to a 16 x 16 grid, where the others work; that is a third of
    the cost of starting at full resolution. SiLU instead of ReLU, because S-IB in input space differentiates the
    gradient: a ReLU network has no second derivative through its gates.

    Args:
        num_classes: number of classes K.
        width: channels of the first convolution; the next ones have twice, four and four times as many.
        norm: which normalization: ``"batch"``, or ``"group"`` (4 groups; images then do not influence each other).
        activation: which nonlinearity: ``"silu"``, or ``"relu"`` (for methods that need ReLU modules).

    Input (B, 3, H, W) with H and W at least 4; output logits (B, K). The feature grid is (H/4, W/4).

    Raises:
        ValueError: an unknown norm or activation.
    """

    def __init__(self, num_classes: int = 8, width: int = 16, norm: str = "batch", activation: str = "silu"):
        super().__init__()
        check_choice("norm", norm, ("batch", "group"))
        check_choice("activation", activation, ("silu", "relu"))

        def block(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
            normalize = nn.BatchNorm2d(outside) if norm == "batch" else nn.GroupNorm(4, outside)
            convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
            return [convolution, normalize, nn.SiLU() if activation == "silu" else nn.ReLU()]

        self.features = nn.Sequential(
            *block(3, width, kernel=5, stride=2),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 4 * width),
            *block(4 * width, 4 * width),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits
