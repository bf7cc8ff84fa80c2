"""How a network that was trained with images of one size sees a picture of any size."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_logits
from sibx._outputs import Output, warn_of_probabilities
from sibx.images.fitted_picture import Fit, FittedPicture, fit_picture
from sibx.images.normalization import Normalization


class Look(NamedTuple):
    """A picture as a network sees it, the images (1, C, h, w) that go into the network, and its logits (1, K)."""

    seen: FittedPicture
    images: Tensor
    logits: Tensor


class Eye(NamedTuple):
    """How a network sees pictures.

    Attributes:
        model: the network, in eval mode on its device.
        device: the device.
        normalization: normalization of its images.
        image_size: side in pixels that it was trained with.
        output: what its logits are.

    Example:
        >>> model = build_model("tiny_cnn", num_classes=5).eval()
        >>> eye = Eye(model, torch.device("cpu"), Normalization((0.5,) * 3, (0.5,) * 3), image_size=32)
        >>> look = eye.look(torch.rand(3, 40, 60))
        >>> tuple(look.images.shape), tuple(look.logits.shape)
        ((1, 3, 32, 48), (1, 5))
    """

    model: nn.Module
    device: torch.device
    normalization: Normalization
    image_size: int
    output: Output = "auto"

    def look(self, pixels: Tensor, fit: Fit | Literal["auto"] = "auto") -> Look:
        """Look at a picture (C, H, W) in [0, 1].

        Args:
            pixels: the picture.
            fit: what the network sees of it, see ``fit_picture``; ``auto`` = ``whole``, or ``pad`` where the network
                takes only squares.

        Raises:
            ValueError, RuntimeError, AssertionError: a picture that the network does not take.
        """
        if fit != "auto":
            return self._look(pixels, fit)
        try:
            return self._look(pixels, "whole")
        except (RuntimeError, ValueError, AssertionError):  # many transformers take squares of one size only
            return self._look(pixels, "pad")

    def _look(self, pixels: Tensor, fit: Fit) -> Look:
        seen = fit_picture(pixels, self.image_size, fit, self.normalization.mean)
        images = self.normalization(seen.pixels[None].to(self.device))
        with torch.no_grad():  # not inference_mode: the images go into methods that want gradients
            logits = self.model(images)
        check_logits(logits, 1)
        warn_of_probabilities(logits, self.output)
        return Look(seen, images, logits)
