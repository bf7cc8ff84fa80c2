"""Seeds that belong to an image and not to its place in a batch."""

import zlib
from collections.abc import Sequence

from torch import Tensor


def content_seed(image: Tensor, seed: int = 0) -> int:
    """A seed made of the values of one image, of any shape; another ``seed`` gives another one."""
    return zlib.crc32(image.detach().float().cpu().contiguous().numpy().tobytes(), seed)


def image_seeds(ids: Sequence[str], seed: int, purpose: str) -> list[int]:
    """One seed per image from its name, so that what is drawn depends neither on the batch nor on the other images."""
    return [zlib.crc32(f"{seed}/{purpose}/{name}".encode()) for name in ids]
