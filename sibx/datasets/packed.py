"""Masks at a bit per pixel."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sibx._checks import require

Bits = npt.NDArray[np.uint8]


class PackedMasks:
    """N masks of one size in N H W / 8 bytes of memory: those of 20,000 images of 224 x 224 pixels take 125 MB.

    Args:
        batches: the masks, batch by batch, each (n, 1, H, W) bool.

    Raises:
        ValueError: masks of another dtype, or of different sizes.

    Example:
        >>> masks = PackedMasks([torch.ones(2, 1, 4, 4).bool(), torch.zeros(1, 1, 4, 4).bool()])
        >>> len(masks), masks[1:].flatten(1).sum(1).tolist()
        (3, [16, 0])
    """

    def __init__(self, batches: Iterable[Tensor]):
        parts: list[Bits] = []
        self.size = (0, 0)
        for masks in batches:
            good = masks.ndim == 4 and masks.shape[1] == 1 and masks.dtype == torch.bool
            require(good, "batches", "hold bool masks (n, 1, H, W)", masks)
            size = (masks.shape[2], masks.shape[3])
            require(not parts or size == self.size, "batches", f"hold masks of one size, {self.size}", size)
            self.size = size
            parts.append(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
        self._bits: Bits = np.concatenate(parts) if parts else np.zeros((0, 0), np.uint8)

    def __len__(self) -> int:
        return len(self._bits)

    def __getitem__(self, rows: slice) -> Tensor:
        """Return some of the masks, (n, 1, H, W) bool."""
        height, width = self.size
        values = np.unpackbits(self._bits[rows], axis=1, count=height * width)
        return torch.from_numpy(values.astype(bool)).view(-1, 1, height, width)

    def reordered(self, order: Tensor) -> "PackedMasks":
        """Return the masks in another order, (N,) indices."""
        masks = PackedMasks([])
        masks.size, masks._bits = self.size, self._bits[order.numpy()]
        return masks
