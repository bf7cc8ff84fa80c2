"""A self mask with the image's own edges: the model says roughly where the object is, the colors how far it goes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from sibx._checks import check_integer, check_range
from sibx._precise import precise
from sibx.images.pixels import as_colors

# GrabCut models object and background as mixtures of 5 Gaussians of 13 parameters each, which OpenCV takes as a row.
_NO_MODEL, _NO_BOX = (1, 65), (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class GrabCut:
    """The evidence cut along the edges of the image (Rother 2004), by OpenCV.

    The pixels with the most evidence are object, those with the least are background. Between them GrabCut draws the
    boundary where colors change, starting from the pixels that are likely the object. So the mask gets the size and the
    outline of the object, which a fixed share of a coarse map does not have.

    Calling it maps evidence (B, 1, H, W) and images (B, C, H, W) to a mask (B, 1, H, W) bool, row by row, on the
    evidence's device. Colors are taken relative to the image's own range, so any normalization works; of more than
    three channels the first three are the colors. Every image starts from the same random state of OpenCV: a row's
    mask does not depend on the other rows.

    Attributes:
        sure: share of the pixels, in (0, ``likely``], that are object whatever their color.
        likely: share of the pixels, in (0, 1), that are the object at the start, ``sure`` among them.
        background: share of the pixels, in (0, 1 - ``likely``], that are background whatever their color.
        rounds: number of times, at least 1, that colors are learned and the boundary is drawn again.

    Raises:
        ValueError: a field outside its range.

    Source: Rother, Kolmogorov, Blake 2004, ACM Transactions on Graphics 23; the seeds are ours.
    """

    needs: ClassVar[tuple[str, ...]] = ("images",)
    differentiable: ClassVar[bool] = False

    sure: float = 0.1
    likely: float = 0.4
    background: float = 0.2
    rounds: int = 3

    def __post_init__(self) -> None:
        check_range("likely", self.likely, 1e-6, 1 - 1e-6)
        check_range("sure", self.sure, 1e-6, self.likely)
        check_range("background", self.background, 1e-6, 1 - self.likely)
        check_integer("rounds", self.rounds, 1)

    def __call__(self, evidence: Tensor, images: Tensor) -> Tensor:
        """Return the mask (B, 1, H, W) bool."""
        pictures, seeds = _pictures(images), self._seeds(evidence)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV cuts one image on one core
            cuts = list(pool.map(partial(_cut, rounds=self.rounds), pictures, seeds))
        return torch.from_numpy(np.stack(cuts)).to(evidence.device)[:, None]

    def _seeds(self, evidence: Tensor) -> np.ndarray:
        """Return OpenCV's labels of all pixels, (B, H, W), by the rank of a pixel's evidence in its image."""
        rows = evidence.detach().flatten(1).cpu()
        count = rows.shape[1]
        order = rows.argsort(dim=1, descending=True, stable=True)
        labels = torch.full(rows.shape, cv2.GC_PR_BGD, dtype=torch.uint8)
        labels.scatter_(1, order[:, : round(self.likely * count)], cv2.GC_PR_FGD)
        labels.scatter_(1, order[:, : max(1, round(self.sure * count))], cv2.GC_FGD)
        labels.scatter_(1, order[:, count - max(1, round(self.background * count)) :], cv2.GC_BGD)
        return labels.view(-1, *evidence.shape[2:]).numpy()


def _pictures(images: Tensor) -> np.ndarray:
    """Return pictures (B, H, W, 3) in 0..255, the range of each image stretched to 0..255."""
    flat = precise(images.detach().flatten(1))
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, 1.0)
    scaled = (precise(images.detach()) - low.view(-1, 1, 1, 1)) / span.view(-1, 1, 1, 1) * 255
    return as_colors(scaled).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def cut_from(
    picture: np.ndarray, *, here: np.ndarray, away: np.ndarray, likely: np.ndarray, rounds: int = 3
) -> np.ndarray:
    """Cut a picture along its edges from what is known of some pixels; returns a mask (H, W) bool.

    Args:
        picture: colors (H, W, 3) uint8.
        here: pixels that are the object, (H, W) bool.
        away: pixels that are background, (H, W) bool; they count before those of ``here``.
        likely: pixels that are likely the object, (H, W) bool; all others are likely background.
        rounds: number of times, at least 1, that colors are learned and the boundary is drawn again.
    """
    seed = np.full(picture.shape[:2], cv2.GC_PR_BGD, dtype=np.uint8)
    seed[likely] = cv2.GC_PR_FGD
    seed[here] = cv2.GC_FGD
    seed[away] = cv2.GC_BGD
    some = np.isin(seed, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if some.all() or not some.any():  # nothing to learn one of the two colors from
        return some
    return _cut(np.ascontiguousarray(picture), seed, rounds)


def _cut(picture: np.ndarray, seed: np.ndarray, rounds: int) -> np.ndarray:
    cv2.setRNGSeed(0)  # the mixtures start from random colors; every thread has its own random state
    object_colors, background_colors = np.zeros(_NO_MODEL), np.zeros(_NO_MODEL)
    cv2.grabCut(picture, seed, _NO_BOX, background_colors, object_colors, rounds, cv2.GC_INIT_WITH_MASK)
    return (seed == cv2.GC_FGD) | (seed == cv2.GC_PR_FGD)
