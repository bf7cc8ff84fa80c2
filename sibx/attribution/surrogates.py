"""LIME (Ribeiro et al., KDD 2016) and kernel SHAP (Lundberg and Lee, NeurIPS 2017) on segments, through Captum."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from captum import attr as captum
from torch import Tensor

from sibx._checks import check_finite, check_integer, check_range, check_seed
from sibx.attribution.segmented import SegmentAttribution, Segments, seeded
from sibx.images.baselines import Baseline
from sibx.images.normalization import Normalization

BINDING = 1e6  # what the images with all segments and with none count, where others count 1


class LIME(SegmentAttribution):
    """LIME: the weights of a linear model of the score, fitted to images with random segments removed; signed.

    Every segment is kept with probability 1/2. An image that keeps n of L segments counts ``exp(-d^2 / 2 w^2)`` in the
    fit, d = 1 - sqrt(n / L), the cosine distance from the whole image; the fit is ridge regression.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        segments: ``"slic"`` (default): superpixels of each image; integers (B, 1, H, W), or (1, 1, H, W) for all
            images, with a number per segment; or a function from images to such integers.
        samples: number of changed images.
        width: width w of the weights; inf = all images count the same.
        ridge: strength of the penalty on the squared weights; 0 = none.
        count: about how many superpixels, for ``"slic"``.
        baseline: what replaces a segment: ``"mean"`` (default): 0 in normalized space, ``"black"``, ``"blur"`` or
            ``"noise"``.
        normalization: normalization of the images, for ``"black"`` and for the colors that ``"slic"`` compares.
        images_per_pass: number of changed images in one forward pass.
        seed: seed of the random choices, which are the same for every image.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Attributions (B, 1, H, W), signed, in units of the score: every pixel has the weight of its segment.

    Raises:
        ValueError: a number out of range, an unknown baseline, inputs that are not one image tensor, or segments that
            are not integers of their shape.

    Source: Ribeiro et al., arXiv 1602.04938, through ``captum.attr.Lime``; weights and penalty are those of the
    authors' code for images (w = .25 / sqrt(2), ridge 1).

    Example:
        >>> corner = torch.arange(4).view(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
        >>> scores = LIME(lambda x: x.mean((1, 2, 3)), segments=corner, ridge=0).attribute(torch.ones(1, 3, 8, 8))
        >>> scores[0, 0, ::4, ::4].round(decimals=3)
        tensor([[0.2500, 0.2500],
                [0.2500, 0.2500]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        segments: Segments = "slic",
        samples: int = 500,
        width: float = 0.25 / math.sqrt(2),
        ridge: float = 1.0,
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
        check_integer("samples", samples, 1)
        check_range("width", width, 1e-6)
        check_finite("ridge", ridge, 0)
        check_seed("seed", seed)
        self.samples, self.width, self.ridge, self.seed = samples, width, ridge, seed

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "LIME"

    def _passes(self, count: int) -> int:
        return math.ceil(self.samples / self.images_per_pass)

    def _of_one(
        self, model: Callable[..., Tensor], image: Tensor, gone: Tensor, segments: Tensor, target: Any, extra: Any
    ) -> Tensor:
        with seeded(self.seed, image.device):
            weights = self._method(model).attribute(
                image,
                baselines=gone,
                target=target,
                additional_forward_args=extra,
                feature_mask=segments,
                n_samples=self.samples,
                perturbations_per_eval=self.images_per_pass,
                return_input_shape=False,
            )
        return weights.to(image.device).flatten()[segments]

    def _method(self, model: Callable[..., Tensor]) -> captum.Lime:
        return captum.Lime(model, _Linear(self.ridge), similarity_func=self._weight)

    def _weight(self, _: Tensor, __: Tensor, kept: Tensor, **___: Any) -> float:
        """Return what one changed image counts; ``kept`` is (1, L), 1 where a segment is kept."""
        distance = 1 - math.sqrt(float(kept.float().mean()))
        return math.exp(-(distance**2) / (2 * self.width**2))


class KernelSHAP(LIME):
    """Kernel SHAP: Shapley values of the segments, by a weighted linear model of the score; signed.

    Two images keep all segments and none; they bind the fit, so that the values of all segments sum to the difference
    of their scores. For the others the number n of L segments that are kept is drawn with the weights of the Shapley
    kernel, 1 / (n (L - n)), and the segments at random; every choice is followed by its opposite, which makes the fit
    less noisy. With more samples the values approach the Shapley values.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        segments: ``"slic"`` (default): superpixels of each image; integers (B, 1, H, W), or (1, 1, H, W) for all
            images, with a number per segment; or a function from images to such integers.
        samples: number of changed images, at least 2; more than segments, or the fit is not unique.
        count: about how many superpixels, for ``"slic"``.
        baseline: what replaces a segment: ``"mean"`` (default): 0 in normalized space, ``"black"``, ``"blur"`` or
            ``"noise"``.
        normalization: normalization of the images, for ``"black"`` and for the colors that ``"slic"`` compares.
        images_per_pass: number of changed images in one forward pass.
        seed: seed of the random choices, which are the same for every image.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Attributions (B, 1, H, W), signed, in units of the score: every pixel has the value of its segment.

    Raises:
        ValueError: a number out of range, an unknown baseline, inputs that are not one image tensor, or segments that
            are not integers of their shape.

    Source: Lundberg and Lee, arXiv 1705.07874, through ``captum.attr.Lime``; the opposites are from Covert and Lee,
    arXiv 2012.01536.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        segments: Segments = "slic",
        samples: int = 500,
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
            samples=samples,
            ridge=0,
            count=count,
            baseline=baseline,
            normalization=normalization,
            images_per_pass=images_per_pass,
            seed=seed,
            progress=progress,
        )
        check_integer("samples", samples, 2)

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Kernel SHAP"

    def _method(self, model: Callable[..., Tensor]) -> captum.Lime:
        return captum.Lime(model, _Linear(0), similarity_func=self._weight, perturb_func=_shapley_choices)

    def _weight(self, _: Tensor, __: Tensor, kept: Tensor, **___: Any) -> float:
        return 1.0 if kept.min() != kept.max() else BINDING


def _shapley_choices(image: Tensor, *, num_interp_features: int, **_: Any) -> Iterator[Tensor]:
    """Yield choices (1, L) with the weights of the Shapley kernel, each followed by its opposite."""
    count = num_interp_features
    sizes = torch.arange(1, count).float()
    everything = torch.ones(1, count, dtype=torch.int64, device=image.device)
    yield from (everything, 1 - everything)
    while count > 1:
        size = 1 + int(torch.multinomial(1 / (sizes * (count - sizes)), 1))
        kept = torch.zeros_like(everything)
        kept[0, torch.randperm(count)[:size].to(kept.device)] = 1
        yield from (kept, 1 - kept)
    while True:
        yield from (everything, 1 - everything)


class _Linear:
    """Weighted ridge regression with an intercept that is not penalized, in the form of Captum's linear models."""

    def __init__(self, ridge: float):
        self.ridge = ridge
        self.weights = torch.zeros(1, 0)

    def fit(self, data: Any) -> None:
        """Fit to a loader with one batch: choices (N, L), scores (N,) and what they count (N,)."""
        choices, scores, counts = (t.detach().cpu().numpy().astype(np.float64) for t in next(iter(data)))
        share = counts / counts.sum()
        root = np.sqrt(counts)[:, None]
        rows = root * (choices - share @ choices)
        values = root[:, 0] * (scores - share @ scores)
        penalty = math.sqrt(self.ridge) * np.eye(rows.shape[1])
        found = np.full(rows.shape[1], np.nan)
        if np.isfinite(values).all():
            found = np.linalg.lstsq(np.vstack([rows, penalty]), np.append(values, np.zeros(len(penalty))), rcond=None)[
                0
            ]
        self.weights = torch.from_numpy(found).float().view(1, -1)

    def representation(self) -> Tensor:
        """Return the weights (1, L)."""
        return self.weights
