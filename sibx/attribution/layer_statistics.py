"""Mean and deviation of a layer's units over images: what noise that looks like the layer is drawn from."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_images, require
from sibx._files import save_atomically

ROWS = 32  # of a tensor of images that run in one pass
FORMAT = "sibx layer statistics 1"


class LayerStatistics(NamedTuple):
    """What a layer does on images, unit by unit; all tensors have the shape of its output for one image.

    Attributes:
        mean: mean over images.
        deviation: standard deviation over images (n - 1).
        active: share of the images in which the unit is not zero, in [0, 1].
        seen: number of images.
    """

    mean: Tensor
    deviation: Tensor
    active: Tensor
    seen: int

    def save(self, path: str | Path) -> None:
        """Write them to a file that appears complete or not at all.

        Args:
            path: file to write; its folder is made if needed.
        """
        tensors = {name: value.cpu() for name, value in self._asdict().items() if isinstance(value, Tensor)}
        save_atomically(Path(path), {"format": FORMAT, "seen": self.seen, **tensors})

    @classmethod
    def load(cls, path: str | Path) -> "LayerStatistics":
        """Read what ``save`` wrote, as data (``weights_only``): a file from anywhere runs no code.

        Args:
            path: file to read.

        Raises:
            ValueError: the file is missing, damaged, or holds something else.
        """
        require(Path(path).is_file(), "path", "be a file of layer statistics", str(path))
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"`path` must be a file that can be read, but got {str(path)!r}: {error}") from error
        good = isinstance(content, dict) and content.get("format") == FORMAT and {*cls._fields} <= content.keys()
        require(good, "path", f"be a file of the format {FORMAT!r}", str(path))
        return cls(*(content[name] for name in cls._fields))


class Gathering:
    """Statistics that are gathered batch by batch, by the merging rule of Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = self._active = torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Add a layer's outputs (B, ...)."""
        rows = features.detach().float()
        finite = rows.flatten(1).isfinite().all(1).tolist()
        rule = "hold images on which the layer is finite"
        require(all(finite), "data", rule, f"image {self.count + (*finite, False).index(False)}, counted from 0")
        fits = not self.count or rows.shape[1:] == self._mean.shape
        require(fits, "data", "hold images of one size", f"features {tuple(rows.shape[1:])} after others")
        total, mean = self.count + len(rows), rows.mean(0)
        step = mean - self._mean
        self._squares = self._squares + (rows - mean).square().sum(0) + step.square() * (self.count * len(rows) / total)
        self._mean = self._mean + step * (len(rows) / total)
        self._active = self._active + (rows != 0).sum(0)
        self.count = total

    def result(self) -> LayerStatistics:
        """Return what was gathered; it needs two images."""
        require(self.count > 1, "data", "hold at least 2 images", self.count)
        deviation = (self._squares / (self.count - 1)).sqrt()
        return LayerStatistics(self._mean, deviation, self._active / self.count, self.count)


def batches_of(data: Tensor | Iterable[Any]) -> Iterator[Tensor]:
    """Yield images (B, C, H, W) of a tensor, or of the batches of a loader that hold any."""
    rule = "be images, batches that begin with images, or a LayerStatistics"
    require(isinstance(data, Iterable) and (not isinstance(data, Tensor) or data.ndim > 0), "data", rule, data)
    for batch in data.split(ROWS) if isinstance(data, Tensor) else data:
        images = _images_of(batch)
        check_images(images, "data")
        if len(images):
            yield images


def _images_of(batch: Any) -> Any:
    """Return the images of sibx's batches, the first value of a dict, or the first entry of a tuple or a list."""
    if isinstance(batch, dict):
        return next(iter(batch.values()), None)
    if isinstance(batch, list | tuple):
        return batch[0] if batch else None
    return getattr(batch, "images", batch)
