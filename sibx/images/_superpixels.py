"""Superpixels: connected segments of nearly one color."""

import numpy as np
import numpy.typing as npt
import torch
from skimage.segmentation import slic
from torch import Tensor

from sibx._checks import check_images, check_integer
from sibx.images.normalization import Normalization

SUPERPIXELS = 100
LEAST, DOUBLINGS = 0.25, 7  # of the segments that were asked for; at 1280 segments are nearly squares
COMPACTNESS, LIGHTNESS = 10.0, 100.0  # weight of places beside colors in Lab, where black and white are 100 apart


def superpixels(images: Tensor, normalization: Normalization | None = None, count: int = SUPERPIXELS) -> Tensor:
    """Divide every image into connected segments of nearly one color, by SLIC.

    Args:
        images: (B, C, H, W). One channel is taken for gray and three for RGB, and compared as Lab; others as they are.
        normalization: normalization of the images; None = they are pixels in [0, 1].
        count: how many segments, about; at least 1.

    Returns:
        (B, 1, H, W) int64, numbers of segments from 0 in every image.

    Raises:
        ValueError: a wrong shape, dtype or range.

    Source: Achanta et al., IEEE TPAMI 34 (11), 2012, through skimage.segmentation.slic with compactness 10, which
    stretches the values of every image to the full range before. Of noise, whose pixels of nearly one color do not
    touch, it joins everything to one segment; so the compactness is doubled until a quarter of ``count`` is left.
    """
    check_images(images)
    check_integer("count", count, 1)
    pixels = images.detach() if normalization is None else normalization.inverse(images.detach())
    pictures = pixels.nan_to_num(0).clamp(0, 1).movedim(1, 3).cpu().double().numpy()
    segments = np.zeros(pictures.shape[:3], np.int64)
    for place, picture in enumerate(pictures):
        segments[place] = _slic(picture, count)
    return torch.from_numpy(segments).unsqueeze(1).to(images.device)


def _slic(picture: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Segments (H, W) of one picture (H, W, C) in [0, 1]."""
    colors = picture.shape[2] in (1, 3)
    seen = picture.repeat(3 // picture.shape[2], axis=2) if colors else picture
    compactness = COMPACTNESS if colors else COMPACTNESS / LIGHTNESS
    options = {"n_segments": count, "start_label": 0, "channel_axis": -1, "convert2lab": colors}
    least = LEAST * min(count, seen[..., 0].size)
    for doubling in range(DOUBLINGS + 1):
        segments = slic(seen, compactness=compactness * 2**doubling, **options)
        if len(np.unique(segments)) >= least:  # slic gives what is smaller than half a segment to a neighbor
            break
    return segments
