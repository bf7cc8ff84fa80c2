"""Perturbed images: one stream of them through the model, whatever curves they belong to.

Copying an image and changing one share of its pixels is several times cheaper than composing it anew, so the frames of
an image come in order of growing shares, each made from the one before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from sibx._outputs import Output
from sibx._precise import precise
from sibx.metrics.probability import Model, probability


def relevance_order(heatmaps: Tensor, seed: int = 0) -> Tensor:
    """Pixels from the most to the least relevant, (B, H W) int64; ties in a seeded random order, one for all rows."""
    pixels = heatmaps.shape[2:].numel()
    shuffle = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).to(heatmaps.device)
    # torch sorts a row of integers three times as fast as one of numbers, and the bits of numbers order like them.
    values = precise(heatmaps.detach().flatten(1)[:, shuffle]) + 0.0  # -0.0 + 0.0 is 0.0
    bits = values.view(torch.int64 if values.dtype == torch.float64 else torch.int32).long()
    ascending = bits ^ (bits >> 63 & torch.iinfo(torch.int64).max)  # negative numbers have their bits in reverse order
    order = torch.empty_like(bits)
    for row, descending in zip(order, ~ascending, strict=True):
        row.copy_(shuffle[descending.argsort(stable=True)])
    return order


def orders_pixels(heatmaps: Tensor) -> Tensor:
    """Whether a heatmap says anything: finite, and not zero everywhere; (B,) bool."""
    flat = heatmaps.detach().flatten(1)
    return flat.isfinite().all(1) & (flat > 0).any(1)


def replace(start: Tensor, end: Tensor, order: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
    """Replace pixels of one image by those of another, step by step.

    Args:
        start: (C, H, W).
        end: (C, H, W).
        order: (H W,) indices of pixels.
        counts: how many pixels are replaced in each frame, ascending.

    Yields:
        (C, H, W) with the first ``counts[i]`` pixels of ``order`` taken from ``end``; always the same tensor, changed.
    """
    frame, source = start.flatten(1).clone(), end.flatten(1)
    done = 0
    for count in counts:
        pixels = order[done:count]
        frame.index_copy_(1, pixels, source.index_select(1, pixels))
        done = count
        yield frame.view_as(start)


def run(
    model: Model,
    frames: Iterable[Tensor],
    targets: Tensor,
    like: Tensor,
    batch_size: int,
    *,
    output: Output = "auto",
    score: Callable[..., Tensor] = probability,
) -> Tensor:
    """Probability of the target on every frame, (N,) float64, in full passes but for the last.

    Args:
        model: images -> logits (B, K). What it is given is one buffer, overwritten from pass to pass.
        frames: N tensors (C, H, W), each read before the next is asked for.
        targets: (N,).
        like: images (B, C, H, W) of the shape, type and device of the frames.
        batch_size: frames per pass.
        output: what the logits are.
        score: ``probability``, ``logit`` or ``answers``, which gives (N, 2).
    """
    remaining = iter(frames)
    parts = []
    with torch.inference_mode():
        buffer = like.new_empty(min(batch_size, len(targets)), *like.shape[1:])
        for wanted in targets.split(batch_size):
            batch = buffer[: len(wanted)]
            for slot, frame in zip(batch, remaining, strict=False):
                slot.copy_(frame)
            parts.append(score(model, batch, wanted, output=output))
    return torch.cat(parts).clone()  # outside inference_mode: what users get are ordinary tensors
