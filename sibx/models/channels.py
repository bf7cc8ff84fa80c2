"""Models for images of another number of channels than three."""

import torch
from torch import Tensor, nn

from sibx._checks import check_integer, require

COLORS = 3


def take_channels(model: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution of a model of colored images by one of so many channels; the model is changed.

    Its weights stay of use: one or two channels get an equal part of the sum over red, green and blue, so that a gray
    image looks as its colored copy did. Of more channels the first three keep their weights and the others get the mean
    of these, all times 3 / C.

    Args:
        model: the model.
        channels: number of channels C, at least 1.

    Raises:
        ValueError: fewer than 1 channel, or a model without a convolution of three channels.

    Example:
        >>> take_channels(build_model("tiny_cnn", 5), 1)(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 5])
    """
    check_integer("channels", channels, 1)
    if channels == COLORS:
        return model
    first = _first_convolution(model)
    with torch.no_grad():
        first.weight = nn.Parameter(_spread(first.weight, channels))
    first.in_channels = channels
    for module in model.modules():  # transformers' models check the number themselves
        if getattr(module, "num_channels", None) == COLORS:
            module.num_channels = channels  # type: ignore[assignment]
    config = getattr(model, "config", None)
    if getattr(config, "num_channels", None) == COLORS:
        config.num_channels = channels  # type: ignore[union-attr]
    return model


def _first_convolution(model: nn.Module) -> nn.Conv2d:
    found = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels == COLORS and m.groups == 1)
    first = next(found, None)
    require(first is not None, "model", "have a convolution of 3 channels, to be replaced", type(model).__name__)
    assert first is not None
    return first


def _spread(weight: Tensor, channels: int) -> Tensor:
    """Return weights (out, 3, h, w) as (out, C, h, w)."""
    mean = weight.mean(1, keepdim=True)
    others = mean.expand(-1, max(channels - COLORS, 0), -1, -1)
    kept = weight if channels > COLORS else mean.expand(-1, channels, -1, -1)
    return torch.cat([kept, others], 1) * (COLORS / channels)
