"""Scores lost when segments go: one at a time, or in random orders (Shapley values); through Captum."""

import math
from collections.abc import Callable
from typing import Any

from captum import attr as captum
from torch import Tensor

from sibx._checks import check_integer, check_seed
from sibx.attribution.segmented import SegmentAttribution, Segments, seeded
from sibx.images.baselines import Baseline
from sibx.images.normalization import Normalization


class FeatureAblation(SegmentAttribution):
    """The score lost when a segment is removed, one segment at a time; signed. One forward pass per segment.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        segments: ``"slic"`` (default): superpixels of each image; integers (B, 1, H, W), or (1, 1, H, W) for all
            images, with a number per segment; or a function from images to such integers.
        count: about how many superpixels, for ``"slic"``.
        baseline: what replaces a segment: ``"mean"`` (default): 0 in normalized space, ``"black"``, ``"blur"`` or
            ``"noise"``.
        normalization: normalization of the images, for ``"black"`` and for the colors that ``"slic"`` compares.
        images_per_pass: number of changed images in one forward pass.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Attributions (B, 1, H, W), signed, in units of the score: every pixel has the value of its segment.

    Raises:
        ValueError: a number out of range, an unknown baseline, inputs that are not one image tensor, or segments that
            are not integers of their shape.

    Source: ``captum.attr.FeatureAblation``.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Feature Ablation"

    def _passes(self, count: int) -> int:
        return 1 + math.ceil(count / self.images_per_pass)

    def _of_one(
        self, model: Callable[..., Tensor], image: Tensor, gone: Tensor, segments: Tensor, target: Any, extra: Any
    ) -> Tensor:
        return captum.FeatureAblation(model).attribute(
            image,
            baselines=gone,
            target=target,
            additional_forward_args=extra,
            feature_mask=segments,
            perturbations_per_eval=self.images_per_pass,
        )[:, :1]


class ShapleySampling(SegmentAttribution):
    """Shapley values of the segments: what a segment adds to the score, averaged over random orders; signed.

    In every order the segments are put into the empty image one by one. The values of all segments sum to the
    difference between the scores of the image and the empty one, whatever the number of orders.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        segments: ``"slic"`` (default): superpixels of each image; integers (B, 1, H, W), or (1, 1, H, W) for all
            images, with a number per segment; or a function from images to such integers.
        orders: number of random orders; a forward pass per order and segment.
        count: about how many superpixels, for ``"slic"``.
        baseline: what replaces a segment: ``"mean"`` (default): 0 in normalized space, ``"black"``, ``"blur"`` or
            ``"noise"``.
        normalization: normalization of the images, for ``"black"`` and for the colors that ``"slic"`` compares.
        images_per_pass: number of changed images in one forward pass.
        seed: seed of the orders, which are the same for images of as many segments.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Attributions (B, 1, H, W), signed, in units of the score: every pixel has the value of its segment.

    Raises:
        ValueError: a number out of range, an unknown baseline, inputs that are not one image tensor, or segments that
            are not integers of their shape.

    Source: Castro et al., Computers and Operations Research 36 (5), 2009, through ``captum.attr.ShapleyValueSampling``.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        segments: Segments = "slic",
        orders: int = 10,
        count: int = 50,
        baseline: Baseline = "mean",
        normalization: Normalization | None = None,
        images_per_pass: int = 32,
        seed: int = 0,
        progress: bool = False,
    ):
        super().__init__(
            forward_func,
            segments=segments,
            count=count,
            baseline=baseline,
            normalization=normalization,
            images_per_pass=images_per_pass,
            progress=progress,
        )
        check_integer("orders", orders, 1)
        check_seed("seed", seed)
        self.orders, self.seed = orders, seed

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Shapley Sampling"

    def _passes(self, count: int) -> int:
        return 1 + self.orders * math.ceil(count / self.images_per_pass)

    def _of_one(
        self, model: Callable[..., Tensor], image: Tensor, gone: Tensor, segments: Tensor, target: Any, extra: Any
    ) -> Tensor:
        with seeded(self.seed, image.device):
            return captum.ShapleyValueSampling(model).attribute(
                image,
                baselines=gone,
                target=target,
                additional_forward_args=extra,
                feature_mask=segments,
                n_samples=self.orders,
                perturbations_per_eval=self.images_per_pass,
            )[:, :1]
