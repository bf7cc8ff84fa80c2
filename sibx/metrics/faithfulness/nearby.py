"""Images near an image, and their heatmaps, which all scores of stability share."""

import torch
from torch import Tensor

from sibx._checks import check_explained
from sibx._seeds import content_seed
from sibx.metrics.explained import Explain, Explained

RADIUS, SAMPLES = 0.02, 10


class Nearby:
    """Random images near one: uniform in the cube of a radius, the same whatever the batch.

    Args:
        image: (1, C, H, W).
        radius: half the side of the cube.
        seed: seed of the random images, which depend on it and the image's values.
    """

    def __init__(self, image: Tensor, radius: float, seed: int):
        self._size, self._radius = image.shape[1:], radius
        self._generator = torch.Generator().manual_seed(content_seed(image, seed))

    def move(self, copies: Tensor) -> Tensor:
        """Return the next random images, one for each copy (N, C, H, W) of the image."""
        draws = torch.stack([torch.rand(self._size, generator=self._generator) for _ in copies])
        return copies + self._radius * (2 * draws - 1).to(copies)


class Remembered:
    """A function (images, targets) -> heatmaps that explains no image twice for the same class.

    Args:
        explain: the function that is asked.
    """

    def __init__(self, explain: Explain):
        self._explain = explain
        self._maps: dict[tuple[int, int], Tensor] = {}

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return heatmaps (B, 1, H, W) of images (B, C, H, W), as the function gave them."""
        keys = [(content_seed(x), int(t)) for x, t in zip(images, targets, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._maps]
        if new:
            found = check_explained(self._explain(images[new], targets[new]), images[new])
            self._maps |= {keys[i]: heatmap for i, heatmap in zip(new, found, strict=True)}
        return torch.stack([self._maps[key] for key in keys])


def remembered(e: Explained) -> Remembered:
    """Return what explains again by the method of what was explained, for all that ask about the same images."""
    return Remembered(e.explainer())
