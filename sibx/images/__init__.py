"""Pixels: normalization, geometry, baselines, backgrounds, corruptions and attacks; no model and no data set."""

from sibx.images._superpixels import superpixels
from sibx.images.attacks import fgsm, pgd
from sibx.images.backgrounds import BACKGROUNDS, BackgroundSpec
from sibx.images.baselines import make_baseline
from sibx.images.corruptions import CORRUPTIONS, corrupt
from sibx.images.fitted_picture import FittedPicture, fit_picture
from sibx.images.geometry import augment, resize_and_center_crop
from sibx.images.normalization import IMAGENET, Normalization, Unchanged
from sibx.images.reading import to_pixels

__all__ = [
    "BACKGROUNDS",
    "CORRUPTIONS",
    "IMAGENET",
    "BackgroundSpec",
    "FittedPicture",
    "Normalization",
    "Unchanged",
    "augment",
    "corrupt",
    "fgsm",
    "fit_picture",
    "make_baseline",
    "pgd",
    "resize_and_center_crop",
    "superpixels",
    "to_pixels",
]
