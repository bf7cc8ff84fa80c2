"""All perturbation curves of a batch of heatmaps, from one stream of perturbed images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sibx._checks import check_case, check_images, check_integer, check_range
from sibx._outputs import Output, check_output
from sibx.images.baselines import Baseline, make_baseline
from sibx.images.normalization import Normalization
from sibx.metrics.explained import Explained
from sibx.metrics.frames import orders_pixels, relevance_order, replace, run
from sibx.metrics.probability import answers

STEPS = 28
# Shares of the pixels that are sharp between the blurred and the clean image, of Kapishnikov's information curves.
SHARP = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.21, 0.34, 0.5, 0.75)
Kind = Literal["deletion", "insertion"]
Source = Baseline | Literal["clean"]
Key = tuple[Literal["end", "deletion", "insertion", "sharpening"], Source]
CLEAN: Key = ("end", "clean")
SHARPENING: tuple[Key, Key, Key] = (("end", "blur"), ("sharpening", "blur"), CLEAN)


class Curves(NamedTuple):
    """Probability of the explained class along a perturbation; of ``raw`` scores the score itself.

    Attributes:
        fractions: (S + 1,) float64, true shares of the pixels changed, from 0 to 1.
        probabilities: (B, S + 1) float64.
        auc: (B,) float64, area under the curve over [0, 1] by trapezoids, in [0, 1] for probabilities; NaN where the
            heatmap is zero everywhere or not finite.
    """

    fractions: Tensor
    probabilities: Tensor
    auc: Tensor


@dataclass(frozen=True)
class Perturbations:
    """All perturbation curves of a batch of heatmaps, every perturbed image through the model once.

    Curves share their end points, the clean image and the baseline, and LeRF needs no images of its own: deleting the
    least relevant pixels first is insertion on the same baseline, read backward. Sharpening is insertion on the blurred
    image as well, at shares of its own.

    Attributes:
        model: images -> logits (B, K).
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0.
        targets: (B,) the class explained.
        output: what the logits are, see ``sibx.models.Output``; curves of ``raw`` scores are of the score itself.
        normalization: normalization of the images, for the baseline ``black``.
        steps: number of equal shares in which the pixels are changed, at least 1.
        batch_size: perturbed images per forward pass; steps, images and curves share a pass.
        seed: seed of the random order of pixels that tie, and of the baseline ``noise``; the same for every image, so
            that a score does not depend on its batch.

    Raises:
        ValueError: a wrong shape, dtype or range.
    """

    model: Callable[[Tensor], Tensor]
    images: Tensor
    heatmaps: Tensor
    targets: Tensor
    output: Output = "auto"
    normalization: Normalization | None = None
    steps: int = STEPS
    batch_size: int = 64
    seed: int = 0
    _measured: dict[Key, Tensor] = field(default_factory=dict, init=False, repr=False)
    _sources: dict[Source, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_case(self.images, self.heatmaps, self.targets)
        check_output(self.output)
        check_range("steps", self.steps, 1, self.images.shape[2:].numel())
        check_integer("batch_size", self.batch_size, 1)
        self._sources["clean"] = self.images

    @property
    def clean_probability(self) -> Tensor:
        """Probability of the target on the images as they are, (B,) float64."""
        self._measure([CLEAN])
        return self._measured[CLEAN][:, 0, 0]

    def measure(self, *curves: tuple[Kind, Baseline]) -> None:
        """Run what these curves need and nobody asked for yet, in one stream."""
        ends: list[Key] = [CLEAN, *(("end", baseline) for _, baseline in curves)]
        for _, name in curves:
            self.baseline(name)
        self._measure([*ends, *curves])

    def deletion(self, baseline: Baseline = "mean") -> Curves:
        """Return the curves of the function ``deletion``."""
        return self._curves(("deletion", baseline), CLEAN, ("end", baseline))

    def insertion(self, baseline: Baseline = "blur") -> Curves:
        """Return the curves of the function ``insertion``."""
        return self._curves(("insertion", baseline), ("end", baseline), CLEAN)

    def lerf(self, baseline: Baseline = "mean") -> Curves:
        """Return the curves of the function ``lerf``."""
        kept = self.insertion(baseline)
        return Curves(1 - kept.fractions.flip(0), kept.probabilities.flip(1), kept.auc)

    def sharpening(self) -> Tensor:
        """Return what the model answers as the blurred image becomes sharp, by 0, the shares of SHARP and 1.

        Returns:
            (B, 15, 2) float64: the probability of the target, and whether it is predicted.
        """
        self.baseline("blur")
        self._measure(list(SHARPENING))
        return torch.cat([self._measured[key] for key in SHARPENING], 1).cpu()

    def sharpened(self) -> Iterator[Tensor]:
        """Yield the images (C, H, W) of ``sharpening``: all 15 of image 0, then those of image 1, ..."""
        self.baseline("blur")
        frames = [iter(self._frames(key)) for key in SHARPENING]
        for _ in self.images:
            for key, of_key in zip(SHARPENING, frames, strict=True):
                yield from islice(of_key, self._size(key))

    def baseline(self, name: Baseline) -> Tensor:
        """Return the images without information, (B, C, H, W)."""
        if name not in self._sources:
            self._sources[name] = make_baseline(self.images, name, self.normalization, self.seed)
        return self._sources[name]

    @cached_property
    def order(self) -> Tensor:
        """Pixels from the most to the least relevant, (B, H W)."""
        return relevance_order(self.heatmaps, self.seed)

    @cached_property
    def counts(self) -> list[int]:
        """How many pixels are changed at every point of a curve, steps + 1 of them."""
        pixels = self.heatmaps.shape[2:].numel()
        counts: list[int] = torch.linspace(0, pixels, self.steps + 1, dtype=torch.float64).round().long().tolist()
        return counts

    @cached_property
    def defined(self) -> Tensor:
        """Whether the heatmap orders the pixels, (B,) bool."""
        return orders_pixels(self.heatmaps).cpu()

    def _curves(self, curve: tuple[Kind, Baseline], start: Key, end: Key) -> Curves:
        self.measure(curve)
        probabilities = torch.cat([self._measured[key] for key in (start, curve, end)], 1)[..., 0].cpu()
        fractions = torch.tensor(self.counts, dtype=torch.float64) / self.counts[-1]
        auc = torch.trapezoid(probabilities, fractions).masked_fill(~self.defined, torch.nan)
        return Curves(fractions, probabilities, auc)

    def _measure(self, keys: list[Key]) -> None:
        missing = [key for key in dict.fromkeys(keys) if key not in self._measured]
        if not missing:
            return
        sizes = [self._size(key) for key in missing]
        frames = chain.from_iterable(self._frames(key) for key in missing)
        targets = torch.cat([self.targets.repeat_interleave(size) for size in sizes])
        values = run(self.model, frames, targets, self.images, self.batch_size, output=self.output, score=answers)
        parts = values.split([len(self.targets) * size for size in sizes])
        for key, part, size in zip(missing, parts, sizes, strict=True):
            self._measured[key] = part.view(len(self.targets), size, 2)

    def _size(self, key: Key) -> int:
        """How many frames of a key an image has."""
        return 1 if key[0] == "end" else len(self._between(key))

    def _between(self, key: Key) -> list[int]:
        """How many pixels are changed between the ends of a curve."""
        pixels = self.counts[-1]
        return [round(share * pixels) for share in SHARP] if key[0] == "sharpening" else self.counts[1:-1]

    def _frames(self, key: Key) -> Iterator[Tensor]:
        """Yield an end of every image, or all frames between the ends of image 0, then those of image 1, ..."""
        kind, name = key
        source = self._sources[name]
        if kind == "end":
            yield from source
        else:
            start, end = (self.images, source) if kind == "deletion" else (source, self.images)
            for first, last, order in zip(start, end, self.order, strict=True):
                yield from replace(first, last, order, self._between(key))


def perturbations(e: Explained) -> Perturbations:
    """Return the curves of what was explained, of which all metrics see the same.

    Those of images with fewer pixels than steps are undefined, as of maps that are not finite: other metrics of an
    evaluation see such images all the same.
    """
    check_images(e.images)
    pixels = e.images.shape[2:].numel()
    return Perturbations(
        e.model,
        e.images,
        e.heatmaps if pixels >= STEPS else e.heatmaps * torch.nan,
        e.targets,
        output=e.output,
        steps=min(STEPS, pixels),
        normalization=e.normalization,
        batch_size=e.batch_size,
        seed=e.seed,
    )
