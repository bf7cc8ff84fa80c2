"""XRAI (Kapishnikov et al., ICCV 2019): regions of an image, ranked by their attributions."""

import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from captum.attr import Attribution
from skimage.morphology import disk
from skimage.segmentation import felzenszwalb
from torch import Tensor

from sibx._checks import check_images, check_integer, require
from sibx._seeds import content_seed
from sibx.attribution.integrated import IntegratedGradients
from sibx.attribution.safe import SafeAttribution

SCALES = (50, 100, 150, 250, 500, 1200)  # of Felzenszwalb's segmentation: coarser from one to the next
SIGMA, LEAST, WIDENED = 0.8, 150, 5  # its blur, its smallest segment, and by how many pixels segments are widened
SIDE = 224  # at which the numbers above are meant

Array = npt.NDArray[Any]


class XRAI(SafeAttribution):
    """XRAI: overlapping segments join the region in the order of their mean attribution; signed.

    The image is segmented at six scales by color. Attributions are those of Integrated Gradients from a black and from
    a white image, or your own. The region grows by the segment with the largest mean attribution in what it adds; a
    pixel's value is the mean attribution of the part by which it came in.

    It scores well on object masks because its regions are segments of the picture, whatever the network looks at.
    **Compare it with the control of segments alone**, ``control_regions``: the same segments in a random order.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        attributions: a method in Captum's form whose maps are summed over channels; None = Integrated Gradients from
            the smallest and the largest value of each image.
        steps: steps of these Integrated Gradients, for each of the two starts.

    Attributions (B, 1, H, W), in units of the attributions: about the larger, the earlier in the region.

    Raises:
        ValueError: fewer than one step, or inputs that are not one image tensor.

    Source: Kapishnikov et al., arXiv 1906.02825, algorithm 1, with the segmentations of the authors' code at 224 px.
    """

    def __init__(
        self, forward_func: Callable[..., Tensor], *, attributions: Attribution | None = None, steps: int = 16
    ):
        super().__init__(forward_func)
        check_integer("steps", steps, 1)
        known = attributions is None or isinstance(attributions, Attribution)
        require(known, "attributions", "be a method in Captum's form", attributions)
        self.attributions, self.steps = attributions, steps

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "XRAI"

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        require(len(inputs) == 1, "inputs", "be one image tensor", len(inputs))
        images = inputs[0].detach()
        check_images(images, "inputs")
        maps = self._attributions(images, target, extra).detach().sum(1, keepdim=True)
        return (regions(images, maps).to(images.dtype),)

    def _attributions(self, images: Tensor, target: Any, extra: tuple[Any, ...]) -> Tensor:
        if self.attributions is not None:
            found: Tensor = self.attributions.attribute(images, target=target, additional_forward_args=extra or None)
            return found
        ends = (images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True))
        return sum((self._integrated(images, end, target, extra) for end in ends), torch.zeros_like(images)) / 2

    def _integrated(self, images: Tensor, start: Tensor, target: Any, extra: tuple[Any, ...]) -> Tensor:
        """Integrated Gradients from a flat image (B, 1, 1, 1): of the model of the difference, from zero."""

        def model(difference: Tensor, begin: Tensor, *others: Any) -> Tensor:
            return self.forward_func(begin + difference, *others)

        method = IntegratedGradients(model, steps=self.steps)
        found = method.attribute(images - start, target, (start, *extra))
        assert isinstance(found, Tensor)
        return found


def random_regions(images: Tensor) -> Tensor:
    """Segments of the picture at six scales, joined in a random order: XRAI without a model; the first are 1.

    A pixel's value is the share of the image that was not in the region before it. The order belongs to the image's
    content.
    """
    rows = []
    for image in images:
        segments, left = _segments(image), torch.ones(image.shape[1:], dtype=torch.bool)
        generator, values = torch.Generator().manual_seed(content_seed(image)), torch.zeros(image.shape[1:])
        for number in torch.randperm(len(segments), generator=generator).tolist():
            added = torch.from_numpy(segments[number]) & left
            values[added] = left.float().mean()
            left &= ~added
        rows.append(values[None])
    return torch.stack(rows).to(images) if rows else images[:, :1]


def regions(images: Tensor, maps: Tensor) -> Tensor:
    """Return maps (B, 1, H, W) of regions of the images (B, C, H, W), grown by attributions (B, 1, H, W)."""
    grown = [_grow(_segments(image), a[0].float().cpu().numpy()) for image, a in zip(images, maps, strict=True)]
    rows = torch.from_numpy(np.stack(grown)) if grown else torch.zeros(0, *maps.shape[2:])
    return rows.unsqueeze(1).to(images)


def _segments(image: Tensor) -> list[Array]:
    """Return overlapping segments of an image (C, H, W), bool (H, W) each."""
    pixels = image.detach().float().nan_to_num(0, 0, 0).cpu().movedim(0, 2).numpy()
    low, high = pixels.min(), pixels.max()
    picture = 2 * (pixels - low) / max(high - low, 1e-12) - 1
    size = max(picture.shape[:2]) / SIDE
    around = disk(round(WIDENED * size)).astype(np.uint8)
    found: dict[bytes, Array] = {}
    for scale in SCALES:
        numbers = _joined(
            picture, scale=scale * size, sigma=SIGMA * size, min_size=max(1, round(LEAST * size**2)), channel_axis=-1
        )
        for number in range(numbers.max() + 1):
            widened = cv2.dilate((numbers == number).astype(np.uint8), around).astype(bool)
            found[widened.tobytes()] = widened
    return list(found.values())


def _joined(picture: Array, **options: Any) -> Array:
    """Return Felzenszwalb's segments (H, W) of a picture (H, W, C); more than three channels are meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got image with third dimension")
        numbers: Array = felzenszwalb(picture, **options)
    return numbers


def _grow(segments: list[Array], attributions: Array) -> Array:
    """Return the mean attribution of the part by which every pixel (H, W) came in."""
    values = np.where(np.isfinite(attributions), attributions, 0).astype(np.float64).ravel()
    members, left = np.stack([s.ravel() for s in segments]), np.ones(values.size, dtype=bool)
    sizes, sums = members.sum(1), members @ values  # of what every segment would add
    result = np.zeros(values.size)
    while left.any():
        gains = np.divide(sums, sizes, out=np.full(len(sums), -np.inf), where=sizes > 0)
        best = int(gains.argmax())
        added = members[best] & left
        result[added] = gains[best]
        left &= ~added
        sizes, sums = sizes - members[:, added].sum(1), sums - members[:, added] @ values[added]
    return result.reshape(attributions.shape)
