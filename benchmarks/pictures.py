"""Pictures of a study: the same test images explained after every training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jobs import data_root
from study import Job, Place, Study
from torch import nn
from trainings import subset

from sibx import build_dataset, build_model
from sibx.datasets import DATASETS
from sibx.report import GalleryItem, make_gallery

SHOWN = 18  # images, spread over data sets, models and splits


def draw_gallery(study: Study, place: Place, folder: Path, cells: Sequence[Job]) -> Iterator[GalleryItem]:
    """Yield the pictures of the first seed of every data set and model."""
    scopes = {(job.dataset, job.model): job.seed for job in reversed(cells)}
    splits = {d: [s for s in DATASETS[d].splits if s.startswith("test")] for d in study.datasets}
    images = max(1, SHOWN // sum(len(splits[dataset]) for dataset, _ in scopes))
    for (dataset, model), seed in scopes.items():
        jobs = [j for j in cells if (j.dataset, j.model, j.seed) == (dataset, model, seed)]
        root, size = data_root(study, place, dataset), study.size_of(dataset)
        for split in splits[dataset]:
            every = build_dataset(dataset, root, split, size, **study.options.get(dataset, {}))
            data = subset(every, study.recipe_for(model).test_images)  # pictures of images that have scores
            trained = {j.training: load_model(j, folder, len(data.classes)) for j in jobs}
            yield from make_gallery(trained, data, methods=study.methods, images=images, model=model)


def load_model(job: Job, folder: Path, classes: int) -> nn.Module:
    """Return the model that a job trained, on the CPU."""
    network = build_model(job.model, classes)
    network.load_state_dict(
        torch.load(folder / job.folder / job.training / "model.pt", map_location="cpu", weights_only=True)
    )
    return network.eval()
