"""From pictures of any mode to pixels."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv


def to_pixels(picture: Image.Image) -> Tensor:
    """Return a picture of any mode as RGB values in [0, 1], (3, H, W) float32."""
    pixels: Tensor = tv.to_dtype(tv.pil_to_tensor(picture.convert("RGB")), torch.float32, scale=True)
    return pixels
