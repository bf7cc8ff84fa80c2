"""Attribution to segments of an image instead of pixels: what the methods share that remove segments."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from sibx._captum import run_forward
from sibx._checks import check_choice, check_images, check_integer, require
from sibx._progress import bar_over
from sibx.attribution.safe import SafeAttribution, pick_rows, select_scores
from sibx.images._superpixels import superpixels
from sibx.images.baselines import BASELINES, Baseline, make_baseline
from sibx.images.normalization import Normalization

Segments = Literal["slic"] | Tensor | Callable[[Tensor], Tensor]


class SegmentAttribution(SafeAttribution):
    """Captum's methods that remove parts of an input, on segments of an image; subclasses say which.

    Images are explained one by one, several removals in a pass, with random numbers that are the same for every image;
    so an image's map does not depend on its batch.

    Args:
        forward_func: the model, or any function from images (B, C, H, W) to scores.
        segments: the segments: ``"slic"`` (default): superpixels of each image; integers (B, 1, H, W), or (1, 1, H, W)
            for all images, with a number per segment; or a function from images to such integers.
        count: about how many superpixels, for ``"slic"``.
        baseline: what replaces a segment: ``"mean"`` (default): 0 in normalized space, ``"black"`` (needs
            ``normalization``), ``"blur"`` or ``"noise"``, see ``make_baseline``.
        normalization: normalization of the images, for ``"black"`` and for the colors that ``"slic"`` compares; None =
            it compares the values as they are, stretched to the full range.
        images_per_pass: number of changed images in one forward pass, which bounds the memory.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Attributions (B, 1, H, W), signed, in units of the score: every pixel has the value of its whole segment.

    Raises:
        ValueError: a number out of range, an unknown baseline, inputs that are not one image tensor, or segments that
            are not integers of their shape.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        segments: Segments = "slic",
        count: int = 50,
        baseline: Baseline = "mean",
        normalization: Normalization | None = None,
        images_per_pass: int = 32,
        progress: bool = False,
    ):
        super().__init__(forward_func)
        known = callable(segments) or isinstance(segments, Tensor) or segments == "slic"
        require(known, "segments", "be 'slic', an integer tensor or a function of the images", segments)
        check_integer("count", count, 1)
        check_choice("baseline", baseline, BASELINES)
        check_integer("images_per_pass", images_per_pass, 1)
        self.segments, self.count, self.baseline, self.normalization = segments, count, baseline, normalization
        self.images_per_pass, self.progress = images_per_pass, progress

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _attribute(
        self, tensors: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...], internal_batch_size: int | None
    ) -> tuple[Tensor, ...]:
        """Find the segments of all images first; behind the other arguments they are split with the rows."""
        require(len(tensors) == 1, "inputs", "be one image tensor", len(tensors))
        check_images(tensors[0], "inputs")
        if len(tensors[0]):
            extra = (*extra, self._segment(tensors[0].detach()))
        return super()._attribute(tensors, target, extra, internal_batch_size)

    @torch.no_grad()
    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        (images,), (*others, segments) = inputs, extra
        images, arguments = images.detach(), tuple(others)
        # Captum would take the scores of a segmentation for further images.
        select_scores(run_forward(self.forward_func, images, None, arguments or None), target, len(images))
        gone = make_baseline(images, self.baseline, self.normalization)
        maps = []
        passes = sum(self._passes(len(s.unique())) for s in segments)
        with bar_over(None, self.get_name(), shown=self.progress, total=passes) as bar:
            seen = _Counted(self.forward_func, bar.update, target)
            for i in range(len(images)):
                row, numbers = torch.tensor([i]), segments[i].unique(return_inverse=True)[1][None]
                part = (images[i : i + 1], gone[i : i + 1], numbers, pick_rows(target, row, len(images)))
                maps.append(self._of_one(seen, *part, pick_rows(arguments, row, len(images)) or None))
        return (torch.cat(maps).to(images.dtype),)

    @abstractmethod
    def _of_one(
        self, model: Callable[..., Tensor], image: Tensor, gone: Tensor, segments: Tensor, target: Any, extra: Any
    ) -> Tensor:
        """Return the map (1, 1, H, W) of one image (1, C, H, W), whose segments (1, 1, H, W) count from 0."""

    @abstractmethod
    def _passes(self, count: int) -> int:
        """Return how many forward passes an image of so many segments takes."""

    def _segment(self, images: Tensor) -> Tensor:
        shape = (len(images), 1, *images.shape[2:])
        if isinstance(self.segments, str):
            pixels = images if self.normalization is not None else _stretched(images)
            return superpixels(pixels, self.normalization, self.count)
        found = self.segments if isinstance(self.segments, Tensor) else self.segments(images)
        integer = isinstance(found, Tensor) and not found.is_floating_point() and not found.is_complex()
        fits = integer and tuple(found.shape) in (shape, (1, *shape[1:]))
        require(fits, "segments", f"be an integer tensor of shape {shape}, or of one row for all images", found)
        return found.to(images.device).long().expand(shape)


class _Counted:
    """A model that tells of every pass, and has one score per row where there is no target."""

    def __init__(self, model: Callable[..., Tensor], tell: Callable[[int], Any], target: Any):
        self.model, self.tell, self.target = model, tell, target

    def __call__(self, *inputs: Any) -> Tensor:
        """Run the model."""
        outputs = self.model(*inputs)
        self.tell(1)
        # Of (B, 1) Captum makes maps with one axis more; a single score () it takes for the sum over a whole pass.
        return outputs.reshape(-1) if self.target is None else outputs


def _stretched(images: Tensor) -> Tensor:
    """Bring the values of every image to [0, 1]."""
    flat = images.nan_to_num(0, 0, 0).flatten(1)
    low, high = (v.view(-1, 1, 1, 1) for v in (flat.amin(1), flat.amax(1)))
    return (images - low) / (high - low).where(high > low, 1)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block Captum's random numbers come from a seed; afterwards the generators are where they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
