"""From pictures of any mode to pixels."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv


def to_pixels(picture: Image.Image) -> Tensor:
    """Return a picture of any mode as RGB values in [0, 1], (3, H, W) float32.

    Raises:
        OSError: a picture that cannot be decoded, with the name of its file.
    """
    try:
        colors = picture.convert("RGB")
    except OSError as error:  # Pillow decodes here, and does not say which file it is
        name = getattr(picture, "filename", "") or "without a file"
        raise OSError(f"the picture {name} cannot be read: {error}") from error
    pixels: Tensor = tv.to_dtype(tv.pil_to_tensor(colors), torch.float32, scale=True)
    return pixels
