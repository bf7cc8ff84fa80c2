"""How far scores move with the number of threads and the batch size, against one thread and one image at a time.

Maps of drawn pictures, scored in a process of its own for every number of threads.

    python benchmarks/cost/rounding.py --out docs/results/tables/rounding.csv
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli

from sibx import build_model, evaluate
from sibx.datasets import SyntheticDataset

METHODS = ["sib", "gradcam", "layercam", "saliency"]
METRICS = ["foreground_focus", "average_precision", "deletion", "sparseness"]
THREADS, BATCH_SIZES = (1, 2), (1, 4, 32)
KEY = ["image_id", "method", "metric"]


def scores(threads: int, images: int, side: int) -> dict[int, pd.Series]:
    """For every batch size return the score of every image, method and metric."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, data = build_model("tiny_cnn", 8), SyntheticDataset("test-id", side, size=images)
    found = {}
    for size in BATCH_SIZES:
        results = evaluate(model, data, methods=METHODS, metrics=METRICS, batch_size=size, progress=False)
        found[size] = results.rows.set_index(KEY)["value"]
    return found


def main(out: Path | None = None, images: int = 32, side: int = 32) -> None:
    """Write the table: of all scores of a metric, the largest difference.

    Args:
        out: file for the table; None = it is printed alone.
        images: how many.
        side: of a picture in pixels.
    """
    measure = partial(scores, images=images, side=side)
    with ProcessPoolExecutor(len(THREADS), mp_context=get_context("spawn")) as pool:
        of_threads = dict(zip(THREADS, pool.map(measure, THREADS), strict=True))
    alone = of_threads[1][1]
    lines = []
    for threads, size in product(THREADS, BATCH_SIZES):
        largest = (of_threads[threads][size] - alone).abs().groupby("metric", sort=False, observed=True).max()
        lines.append({"threads": threads, "batch size": size, **{str(m): f"{d:.0e}" for m, d in largest.items()}})
        print(lines[-1], flush=True)
    if out is not None:
        pd.DataFrame(lines).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
