"""How far maps and scores move with the number of threads and the batch size, from one thread and one image at a time.

Every number of threads gets two processes of its own, of which the second has to repeat the first to the bit.

    python benchmarks/cost/rounding.py --out docs/results/tables/rounding.csv
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import nn

from sibx import build_model, evaluate
from sibx.attribution import explain_many
from sibx.datasets import MaskedBatch, SyntheticDataset, collate

METHODS = ["sib", "saliency", "gradcam", "layercam"]
METRICS = ["foreground_focus", "average_precision", "deletion", "sparseness"]
THREADS, BATCH_SIZES = (1, 2, 4), (1, 7, 32)
KEY = ["image_id", "method", "metric"]


class Found(NamedTuple):
    """Maps (N, pixels) of all images and methods, each in shares of its largest value, and the scores of all."""

    maps: np.ndarray
    scores: pd.Series

    def moved(self, other: "Found") -> dict[str, float]:
        """Return the largest difference of maps, and of the scores of each metric."""
        scores = (self.scores - other.scores).abs().groupby("metric", sort=False, observed=True).max()
        return {"map": float(np.abs(self.maps - other.maps).max()), **{str(name): d for name, d in scores.items()}}

    def equals(self, other: "Found") -> bool:
        """Return whether all is the same to the bit."""
        return np.array_equal(self.maps, other.maps) and self.scores.equals(other.scores)


def network() -> nn.Module:
    """Return a network with larger weights than an untrained one has, whose probabilities are all but equal."""
    torch.manual_seed(0)
    model = build_model("tiny_cnn", 8).eval()
    for weight in model.parameters():
        weight.data *= 3 if weight.ndim > 1 else 1
    return model


def maps(model: nn.Module, batch: MaskedBatch, size: int) -> np.ndarray:
    """Explain images, so many at a time; return maps (methods * images, pixels)."""
    parts = zip(batch.images.split(size), batch.labels.split(size), strict=True)
    found = [explain_many(model, images, labels, METHODS) for images, labels in parts]
    every = torch.cat([part[name].abs().amax(1).flatten(1) for name in METHODS for part in found])
    shares = every / every.amax(1, keepdim=True).clamp_min(torch.finfo(every.dtype).tiny)
    return shares.detach().numpy()


def measure(threads: int, images: int, side: int) -> list[Found]:
    """Explain and score the same images by so many threads, for every batch size."""
    torch.set_num_threads(threads)
    model, data = network(), SyntheticDataset("test-id", side, size=images)
    batch, found = collate([data[i] for i in range(images)]), []
    for size in BATCH_SIZES:
        results = evaluate(
            model, data, methods=METHODS, metrics=METRICS, target="label", batch_size=size, progress=False
        )
        found.append(Found(maps(model, batch, size), results.rows.set_index(KEY)["value"]))
    return found


def main(out: Path | None = None, images: int = 32, side: int = 32) -> None:
    """Write the table: the largest difference of all maps, in shares of their largest value, and of all scores.

    Args:
        out: file for the table; None = it is printed alone.
        images: how many.
        side: of a picture in pixels.
    """
    run = partial(measure, images=images, side=side)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        first, again = (list(pool.map(run, THREADS)) for _ in range(2))
    alone, lines = first[0][0], []
    for (row, threads), (column, size) in product(enumerate(THREADS), enumerate(BATCH_SIZES)):
        found = first[row][column]
        repeated = "yes" if found.equals(again[row][column]) else "no"
        moved = {name: f"{value:.0e}" for name, value in found.moved(alone).items()}
        lines.append({"threads": threads, "batch size": size, "repeats itself": repeated, **moved})
        print(lines[-1], flush=True)
    if out is not None:
        pd.DataFrame(lines).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
