"""HSIC attribution (Novello et al., NeurIPS 2022): which cells of a grid the score depends on."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_images, check_integer, check_seed, require
from sibx._hsic import centered_gram
from sibx.attribution.safe import SafeAttribution, select_scores


class HSICAttribution(SafeAttribution):
    """HSIC attribution: how strongly the score depends on whether a cell of the image is shown, by HSIC; at least 0.

    The statistic of S-IB's loss, used on a trained network: cells of a grid are set to zero (the data set's mean) at
    random, half of the images for every cell, and over these images HSIC is taken between a cell's mask m and the score
    s: ``sum_ij L_ij (m_i - mean m) (m_j - mean m) / (N - 1)^2``, L the centered Gram matrix of a Gaussian kernel of the
    scores, whose bandwidth is their median distance. So the scale of the score does not matter, and a cell counts for
    any change of the score's distribution, not of its mean alone. It says that the score depends on a cell, not in
    which direction.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        samples: number N of changed images, at least 2.
        cells: number of cells of the grid along each axis.
        seed: seed of the masks, which are the same for all images.

    Attributions (B, 1, H, W), at least 0: the HSIC of every pixel's cell, 0 where the score never changes. Of cells
    that do not matter it is below 1 / (4 N) on average over masks; a single one may have several times as much.

    Raises:
        ValueError: a number out of range, or inputs that are not one image tensor.

    Source: Novello et al., arXiv 2206.06219: binary masks from a Latin hypercube. Their kernel of the masks is twice
    the linear one that is used here.
    """

    def __init__(self, forward_func: Callable[..., Tensor], *, samples: int = 500, cells: int = 7, seed: int = 0):
        super().__init__(forward_func)
        check_integer("samples", samples, 2)
        check_integer("cells", cells, 1)
        check_seed("seed", seed)
        self.samples, self.cells, self.seed = samples, cells, seed

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "HSIC"

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    @torch.no_grad()
    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        require(len(inputs) == 1, "inputs", "be one image tensor", len(inputs))
        (images,) = inputs
        check_images(images, "inputs")
        shown, scores = self._draw(), []
        for cells in shown:
            mask = F.interpolate(cells.view(1, 1, self.cells, self.cells), images.shape[2:], mode="nearest")
            outputs = run_forward(self.forward_func, images * mask.to(images), None, extra)
            scores.append(select_scores(outputs, target, len(images)).reshape(-1).float())
        centered = (shown - shown.mean(0)).to(images.device)
        maps = [self._dependence(centered, row) for row in torch.stack(scores, 1)]
        drawn = F.interpolate(torch.stack(maps), images.shape[2:], mode="nearest")
        return (drawn.to(images.dtype),)

    def _dependence(self, centered: Tensor, scores: Tensor) -> Tensor:
        """Return HSIC (1, n, n) of centered masks (N, n n) and the scores (N,) of one image."""
        gram = centered_gram(scores[:, None], "gaussian", "biased")
        dependence = (centered * (gram @ centered)).sum(0) / (len(scores) - 1) ** 2
        return dependence.clamp(min=0).view(1, self.cells, self.cells)

    def _draw(self) -> Tensor:
        """Draw the masks (N, n n): of every cell, half of the samples are 1."""
        generator = torch.Generator().manual_seed(self.seed)
        orders = [torch.randperm(self.samples, generator=generator) for _ in range(self.cells**2)]
        return (torch.stack(orders, 1) < self.samples / 2).float()
