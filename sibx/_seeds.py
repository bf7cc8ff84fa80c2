"""Seeds that belong to an image and not to its place in a batch."""

import zlib
from collections.abc import Sequence

from torch import Tensor


def content_seed(image: Tensor, seed: int = 0) -> int:
    """Return a seed computed from the values of one image (any shape); another ``seed`` gives another result."""
    return zlib.crc32(image.detach().float().cpu().contiguous().numpy().tobytes(), seed)


def image_seeds(ids: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Return one seed per image, computed from its name: draws depend neither on the batch nor on other images."""
    return [zlib.crc32(f"{seed}/{purpose}/{name}".encode()) for name in ids]
