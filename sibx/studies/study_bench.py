"""Does the jobs of a study: the checkpoint, its own masks, a training with its scores."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sibx._files import remove_drafts, save_atomically, write_atomically
from sibx._outputs import scores_for
from sibx.datasets import DATASETS, InMemoryDataset, MaskedDataset, PackedMasks, Part, build_dataset, hold
from sibx.images.normalization import Normalization
from sibx.models import about
from sibx.models.checkpoint import save_checkpoint
from sibx.models.zoo import read_weights
from sibx.objectives import self_masks
from sibx.runs.identity import check_identity, identify_data
from sibx.runs.normalized import as_trained
from sibx.studies.job import PARTS, START, Job, left_of
from sibx.studies.lessons import lesson, precision
from sibx.studies.scores import Scorer, some
from sibx.studies.study import Study
from sibx.studies.study_place import Place
from sibx.train import TrainConfig, fine_tune, fine_tune_as
from sibx.train.loop import told_by

Splits = dict[str, MaskedDataset]
READ_AT_ONCE = 64  # images per pass when own masks are read: the parts begin where batches do


def build_splits(study: Study, place: Place, dataset: str) -> Splits:
    """Return all splits of one of a study's data sets, read from its files whenever they are used."""
    root, size, options = place.root_of(study, dataset), study.size_of(dataset), study.options.get(dataset, {})
    splits = {split: build_dataset(dataset, root, split, size, **options) for split in DATASETS[dataset].splits}
    if study.train_images is not None:
        splits["train"] = some(splits["train"], study.train_images)
    return splits


class Workbench:
    """Does one job after the other; the images of the last data set are kept, as far as they fit into memory.

    Args:
        study: whose jobs.
        place: where the data is.
        folder: folder of the study.
        device: where to compute.
        progress: whether to show progress bars.
    """

    def __init__(self, study: Study, place: Place, folder: Path, device: torch.device, progress: bool):
        self.study, self.place, self.folder = study, place, folder
        self.device, self.progress = device, progress
        self._held: tuple[str, Normalization | None] = ("", None)
        self._splits = Splits()
        self._trained_on: dict[str, Normalization | None] = {}  # model -> the normalization of its weights

    def do(self, job: Job) -> None:
        """Do a job, or what is left of it."""
        {"start": self._start, "masks": self._read, "training": self._train}[job.kind](job)
        if job.leftovers is not None:
            shutil.rmtree(self.folder / job.leftovers, ignore_errors=True)

    def prepare(self, job: Job) -> None:
        """Decode the images of a job that cannot be done yet; what goes wrong is said when it is done."""
        with suppress(Exception):
            self.splits(job)

    def splits(self, job: Job) -> Splits:
        """Return the images of a job's data set, normalized as its network was pre-trained."""
        dataset = job.group.dataset
        wanted = self._normalization_of(job.group.model)
        if (dataset, wanted) != self._held:
            self._held, self._splits = ("", None), {}  # let go of the last one first
            splits = build_splits(self.study, self.place, dataset)
            self._recognize(dataset, splits)
            splits = {split: as_trained(wanted, data) for split, data in splits.items()}
            self._held, self._splits = (dataset, wanted), hold(splits, self.place.memory)
        return self._splits

    def _normalization_of(self, model: str) -> Normalization | None:
        """Return the normalization that the weights of a model were trained with; a network is built for it once."""
        if model not in self._trained_on:
            self._trained_on[model] = about(self.study.build(model, 2)).normalization if self.study.weights else None
        return self._trained_on[model]

    def _recognize(self, dataset: str, splits: Splits) -> None:
        """Require the data that the study's first job of this data set saw: what is compared has the same images."""
        path = self.folder / "cells" / f"data-{dataset}.json"
        ours = {s: identify_data(data, torch.device("cpu"), self.place.workers) for s, data in splits.items()}
        if path.is_file():
            theirs = json.loads(path.read_text(encoding="utf-8"))
            check_identity({"root": ours}, {"root": theirs}, f"the study in {str(self.folder)!r}")
        else:
            write_atomically(path, (json.dumps(ours, indent=2) + "\n").encode())

    def _start(self, job: Job) -> None:
        """Train the checkpoint with cross-entropy, ``start.pt``; ``start.json`` says how that went."""
        folder = self.folder / job.group.folder
        splits, recipe = self.splits(job), self.study.recipe_for(job.group.model)
        result = fine_tune(
            self._network(job, trained=False),
            splits["train"],
            config=self._config(recipe.start, job, splits["train"]),
            val_data=splits["val"],
            out_dir=folder / "start-training",
            resume=True,
            progress=self.progress,
        )
        log = {"history": result.history, "seconds": result.seconds}
        write_atomically(folder / "start.json", json.dumps(log, indent=2).encode())
        save_atomically(self.folder / job.file, result.model.state_dict())

    def _read(self, job: Job) -> None:
        """Read the checkpoint's own masks of one part of the training images."""
        train = self.splits(job)["train"]
        batches = -(-len(train) // READ_AT_ONCE)
        first, end = (READ_AT_ONCE * (batches * part // PARTS) for part in (job.part, job.part + 1))
        images = Part(train, range(first, min(end, len(train))))
        masks = torch.empty(0, 1, *train[0].image.shape[1:], dtype=torch.bool)
        if len(images):
            reading = self.study.specs_at(job.group.model)[job.reading].reading
            assert reading is not None
            network = self._network(job, trained=True)
            masks = self_masks(
                network,
                images,
                config=reading,
                output=self.study.output,
                batch_size=READ_AT_ONCE,
                workers=self._workers(train),
                progress=self.progress,
            )
        save_atomically(self.folder / job.file, masks)

    def _train(self, job: Job) -> None:
        """Train and score; ``run.json``, which says that the job is done, is written last."""
        folder, splits = self.folder / job.folder, self.splits(job)
        recipe, spec = self.study.recipe_for(job.group.model), self.study.specs_at(job.group.model)[job.name]
        workers = self._workers(splits["train"])
        data, objective = lesson(spec, splits["train"], self._own_masks(job), job.group.seed, workers)
        config = recipe.tune if self.study.checkpoint else recipe.start
        network = self._network(job, trained=self.study.checkpoint)
        torch.manual_seed(job.group.seed)
        result = fine_tune_as(
            replace(spec, objective=objective, masks=None),  # the data has them
            network,
            data,
            config=self._config(config, job, splits["train"]),
            val_data=splits["val"],
            out_dir=folder / "training",
            resume=True,
            progress=self.progress,
        )
        save_checkpoint(folder / "model.pt", result.model, config=config, **told_by(data))
        info = {"history": result.history, "seconds": result.seconds}
        if spec.from_outside:
            info["mask_precision"] = precision(data, splits["train"], workers)
        scorer = Scorer(self.study, job, folder, self.progress, self._workers(*splits.values()))
        results = scorer.score(result.model, splits, info)
        scorer.draw(result.model, splits)
        results.save(folder)

    def _own_masks(self, job: Job) -> PackedMasks | None:
        files = [self.folder / needed.file for needed in job.needs if needed.kind == "masks"]
        return PackedMasks(torch.load(file, weights_only=True) for file in files) if files else None

    def _workers(self, *sets: MaskedDataset) -> int:
        """Return how many processes read these images: none where all of them are kept."""
        return 0 if all(isinstance(data, InMemoryDataset) for data in sets) else self.place.workers

    def _config(self, config: TrainConfig, job: Job, train: MaskedDataset) -> TrainConfig:
        return replace(config, seed=job.group.seed, workers=max(config.workers, self._workers(train)))

    def _network(self, job: Job, *, trained: bool) -> nn.Module:
        """Build the model of a job; its weights are those of the checkpoint, or as they are without training."""
        train = self.splits(job)["train"]
        torch.manual_seed(job.group.seed)  # of a new head, and of dropout; a job must not depend on those before it
        scores = scores_for(len(train.classes), self.study.output, several=train.several_labels)
        network = self.study.build(job.group.model, scores).to(self.device)
        if trained:
            path = self.folder / job.group.folder / f"{START}.pt"
            network.load_state_dict(read_weights(str(path)))
        return network


def sweep(jobs: Sequence[Job], folder: Path) -> None:
    """Remove what is needed no more: a process may have been killed before it did so itself."""
    left = left_of(jobs, folder)
    for job in jobs:
        if job.kind == "masks" and job not in left and not any(job in other.needs for other in left):
            (folder / job.file).unlink(missing_ok=True)
        if job.leftovers is not None and job not in left:
            shutil.rmtree(folder / job.leftovers, ignore_errors=True)
    remove_drafts(folder.rglob("*.tmp"))
