"""The picture of the README: the same images' maps after cross-entropy, after S-IB, and after S-IB with others' masks.

Takes the folder of a finished study of the embedded images (studies keep every network), here of networks that were
trained from random weights, and explains the first image of each of the first classes of ``test-decorrelated``, where
the background tells nothing: they are not chosen. The class that is explained is the label.

    sibx study --config benchmarks/studies/scratch.yaml --trainings ce sib sib-shuffled --seed 0
    python benchmarks/experiments/before_after.py --study results/study-scratch --out docs/images/before_after.jpg
"""

from pathlib import Path

from jsonargparse import auto_cli

from sibx import build_dataset, explain, load_model, montage
from sibx.datasets import collate

TRAININGS = {"ce": "cross-entropy", "sib": "S-IB", "sib-shuffled": "S-IB, masks of\nother images"}
METHODS = {"gradcam": "Grad-CAM", "vjp": "VJP"}


def main(study: Path, out: Path, rows: int = 4, seed: int = 0) -> None:
    """Draw the picture.

    Args:
        study: folder of the study.
        out: the picture.
        rows: number of images, each of another class.
        seed: seed of the trainings.
    """
    (cells,) = (study / "cells").iterdir()
    data = build_dataset("synthetic", split="test-decorrelated", image_size=64)
    samples = {sample.label: sample for sample in reversed([data[i] for i in range(100)])}  # the first of every class
    batch = collate([samples[label] for label in range(rows)])

    heatmaps = {}
    for method, title in METHODS.items():
        for training, name in TRAININGS.items():
            network = load_model(cells / f"seed-{seed}" / training / "model.pt")
            heatmaps[f"{title}\n{name}"] = explain(network, batch.images, method, batch.labels)
    names = [data.classes[label] for label in range(rows)]
    figure = montage(data.normalization.inverse(batch.images), batch.masks, heatmaps, names)
    figure.savefig(out, dpi=100, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
