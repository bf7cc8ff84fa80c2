"""RISE (Petsiuk et al., BMVC 2018)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_images, check_integer, check_logits, check_range, check_seed, require
from sibx._outputs import Output, check_output, probabilities
from sibx.attribution.safe import SafeAttribution, select_scores
from sibx.models.classes import told_output


class RISE(SafeAttribution):
    """RISE: the mean of random smooth masks, each weighted by the target's probability under it.

    ``S = 1 / (N p) sum_i (f_i - mean f) m_i`` with f_i the probability of the target on ``x m_i``, and m_i a coarse
    random grid of zeros and ones (share p of ones), enlarged bilinearly and shifted at random. S says by how much
    keeping a pixel raises the probability above its mean. Without a target the output of a model with one value per row
    is used as it is.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to logits (B, K), or to one value per row.
        output: what the logits are: ``softmax``, ``sigmoid`` (a single logit has the classes 0 and 1) or ``raw``, whose
            score stands for the probability; ``auto`` = ``sigmoid`` for a single logit, else ``softmax``.
        masks: number N of masks; the noise of the map falls like 1 / sqrt(N).
        cells: number of cells of the grid along each axis.
        share: probability p that a cell is kept.
        seed: seed of the masks. All images get the same masks, so an image's map does not depend on its batch.
        centered: whether ``mean f`` is subtracted (default). False: the published map, without ``mean f``. In
            expectation that map is the centered one plus the class's mean probability, a constant without meaning that
            hides the map; it is also noisier, since pixels differ in how many masks keep them.

    Attributions (B, 1, H, W), in [-1, 1] ([0, 1] if not centered) up to the sampling noise of p.

    Raises:
        ValueError: a number out of range, inputs that are not one image tensor, or an output that is not (B, K).

    Source: Petsiuk et al., arXiv 1806.07421 (7 cells, p = .5; 4000 to 8000 masks at 224 px).
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        output: Output = "auto",
        masks: int = 1000,
        cells: int = 7,
        share: float = 0.5,
        seed: int = 0,
        centered: bool = True,
    ):
        forward_func, output = told_output(forward_func, output)
        super().__init__(forward_func)
        check_output(output)
        check_integer("masks", masks, 1)
        check_integer("cells", cells, 1)
        check_range("share", share, 1e-6, 1)
        check_seed("seed", seed)
        self.output, self.masks, self.cells, self.share = output, masks, cells, share
        self.seed, self.centered = seed, centered

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "RISE"

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    @torch.no_grad()
    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        require(len(inputs) == 1, "inputs", "be one image tensor", len(inputs))
        (images,) = inputs
        check_images(images, "inputs")
        precise = torch.promote_types(images.dtype, torch.float32)  # half precision cannot count to a thousand
        total, kept = (torch.zeros_like(part, dtype=precise) for part in (images[:, :1], images[:1, :1]))
        level = total.new_zeros(len(images), 1, 1, 1)
        for mask in self._draw(images):
            outputs = run_forward(self.forward_func, images * mask, None, extra)
            probability = _probability(outputs, target, len(images), self.output).to(total).view(-1, 1, 1, 1)
            total += probability * mask
            kept += mask
            level += probability / self.masks
        if self.centered:
            total -= level * kept
        return ((total / (self.masks * self.share)).to(images.dtype),)

    def _draw(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the masks (1, 1, H, W)."""
        generator = torch.Generator().manual_seed(self.seed)
        height, width = images.shape[2:]
        cell_height, cell_width = -(-height // self.cells), -(-width // self.cells)
        for _ in range(self.masks):
            grid = (torch.rand(1, 1, self.cells + 1, self.cells + 1, generator=generator) < self.share).float()
            size = ((self.cells + 1) * cell_height, (self.cells + 1) * cell_width)
            large = F.interpolate(grid, size, mode="bilinear")
            y = int(torch.randint(cell_height, (), generator=generator))
            x = int(torch.randint(cell_width, (), generator=generator))
            yield large[..., y : y + height, x : x + width].to(images)


def _probability(outputs: Tensor, target: Any, batch: int, output: Output) -> Tensor:
    if target is None:
        return select_scores(outputs, None, batch).reshape(-1)
    check_logits(outputs, batch, "forward_func")
    return select_scores(probabilities(outputs, output), target, batch)
