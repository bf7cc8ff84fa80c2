"""An evaluation that tests/evaluation/test_storage.py kills.

``python -m tests.helpers.interrupted_evaluation FOLDER N`` starts or resumes it in FOLDER and kills it with SIGKILL,
N times.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from sibx import METRICS, evaluate
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.metrics import deletion
from sibx.models import TinyCNN
from tests.helpers.interrupted import kill_repeatedly

PAUSE = 0.005  # seconds per method and batch: 27 of them are longer than a process is left to run


def short_deletion(explained):
    """Few steps are enough here; the curve is kept. A pause leaves time to kill the evaluation between batches."""
    time.sleep(PAUSE)
    e = explained
    curves = deletion(e.model, e.images, e.heatmaps, e.targets, steps=3, batch_size=e.batch_size, seed=e.seed)
    e.curves["deletion"] = curves.fractions, curves.probabilities
    return curves.auc


REQUEST = {
    "methods": ["saliency", "gradcam", "layercam"],
    "metrics": ["foreground_focus", replace(METRICS["deletion"], score=short_deletion)],
    "batch_size": 2,
    "seed": 3,
}


def data(size=17):
    return InMemoryDataset.load(SyntheticDataset("test-id", 16, size=size))


def network(width=4):
    torch.manual_seed(0)
    return TinyCNN(8, width=width).eval()


def score(**options):
    changes = {"model": network(), "dataset": data(), "progress": False, **REQUEST, **options}
    return evaluate(changes.pop("model"), changes.pop("dataset"), **changes)


def parts(folder):
    """How many batches are on disk."""
    return len(list(Path(folder).glob("part-*.json.gz")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    score(dataset=data(2))  # what every child needs, once
    folder, kills = sys.argv[1:]
    kill_repeatedly(lambda: score(out_dir=folder, resume=True), lambda: parts(folder), int(kills), 0.1)
