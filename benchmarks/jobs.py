"""Does the jobs of a study: data, checkpoint, training and scores of one cell."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from cells import finish_cell, start_checkpoint
from study import START, Job, Place, Study
from torch import nn
from trainings import Plan, Plans, load_splits, plan_trainings, precision, subset

from sibx import Results, build_model, evaluate
from sibx.datasets import InMemoryDataset, spread
from sibx.evaluation import evaluate_reliance
from sibx.train import FineTuneResult

Splits = dict[str, InMemoryDataset]


class Workbench:
    """Does one job after the other; what the next one needs again is kept.

    Args:
        study: whose jobs.
        place: where the data is.
        folder: of the study.
        device: where to compute.
    """

    def __init__(self, study: Study, place: Place, folder: Path, device: torch.device):
        self.study, self.place, self.folder, self.device = study, place, folder, device
        self._dataset = ""
        self._splits: Splits = {}
        self._group: Job | None = None
        self._plans: Plans = {}

    def do(self, job: Job) -> None:
        """Do a job, or what is left of it.

        Raises:
            RuntimeError: the checkpoint it starts from could not be made.
        """
        folder = self.folder / job.folder
        if job.training != START and not is_done(job.group, self.folder):
            raise RuntimeError(f"there is no checkpoint to start from: {job.group} failed")
        recipe = self.study.recipe_for(job.model)
        splits = self.splits(job.dataset)
        torch.manual_seed(job.seed)  # of a new head, and of dropout; a job must not depend on those before it
        network = build_model(job.model, len(splits["train"].classes), self.study.weights).to(self.device)
        start = start_checkpoint(network, splits["train"], replace(recipe.start, seed=job.seed), folder, splits["val"])
        if job.training == START:
            return
        plan = self.plans(job, start, splits)[job.training]()
        torch.manual_seed(job.seed)
        score = partial(self.score, job, splits, plan)
        config = replace(recipe.tune, seed=job.seed)
        finish_cell(folder / job.training, start, plan, config, splits["val"], score)

    def splits(self, dataset: str) -> Splits:
        """Return the images of a data set."""
        if dataset != self._dataset:
            self._dataset, self._splits, self._group, self._plans = "", {}, None, {}  # let go of the last one first
            options = self.study.options.get(dataset, {})
            splits = load_splits(
                dataset, data_root(self.study, self.place, dataset), self.study.size_of(dataset), **options
            )
            if self.study.train_images is not None:
                splits["train"] = subset(splits["train"], self.study.train_images)
            self._dataset, self._splits = dataset, splits
        return self._splits

    def plans(self, job: Job, start: nn.Module, splits: Splits) -> Plans:
        """Return what the trainings of a job's group learn from."""
        if job.group != self._group:
            self._plans = {}
            self._plans = plan_trainings(start, splits["train"], self.study.recipe_for(job.model), job.seed)
            self._group = job.group
        return self._plans

    def score(self, job: Job, splits: Splits, plan: Plan, result: FineTuneResult) -> Results:
        """Explain the test images and score the maps, and the classifier on other backgrounds."""
        folder = self.folder / job.folder / job.training / "training"
        parts = [
            part
            for split, data in splits.items()
            if split.startswith("test")
            for part in (*self._explain(job, data, result.model, folder / split), *self._rely(job, data, result.model))
        ]
        info = {"history": result.history, "seconds": result.seconds, "evaluation": parts[0].info}
        if plan[1] is not None and plan[1].needs_masks:
            info["mask_precision"] = precision(plan[0], splits["train"])
        return Results.concat(parts, info)

    def _explain(self, job: Job, data: InMemoryDataset, model: nn.Module, folder: Path) -> Iterator[Results]:
        study, recipe = self.study, self.study.recipe_for(job.model)
        explained = subset(data, recipe.test_images)
        perturbed, rest = divide(explained, recipe.perturbed_images)
        metrics = {"perturbed": [*study.localization, *study.faithfulness], "rest": study.localization}
        for name, images in {"perturbed": perturbed, "rest": rest}.items():
            if len(images):
                yield evaluate(
                    model,
                    images,
                    methods=[*study.methods, *study.controls],
                    metrics=metrics[name],
                    labels=_labels(job),
                    batch_size=study.batch_size,
                    seed=job.seed,
                    out_dir=folder / name,
                    resume=True,
                )

    def _rely(self, job: Job, data: InMemoryDataset, model: nn.Module) -> Iterator[Results]:
        """Every image as it is, which says how accurate the model is; some of them with other backgrounds."""
        changed, rest = divide(data, self.study.reliance_images)
        rely = partial(evaluate_reliance, model, labels=_labels(job), batch_size=self.study.batch_size, seed=job.seed)
        if len(changed):
            yield rely(changed)
        if len(rest):
            yield rely(rest, backgrounds=())


def is_done(job: Job, folder: Path) -> bool:
    """Whether a job has been done, in the study's folder."""
    place = folder / job.folder
    return (place / "start.pt" if job.training == START else place / job.training / "run.json").is_file()


def data_root(study: Study, place: Place, dataset: str) -> str | None:
    """Return the folder of a data set."""
    return None if place.root is None else str(Path(place.root, study.folders.get(dataset, "")))


def divide(data: InMemoryDataset, count: int) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Divide images into at most so many, spread over the set, and the others."""
    taken = set(spread(len(data), count))
    parts: Sequence[list[int]] = (
        [i for i in range(len(data)) if i in taken],
        [i for i in range(len(data)) if i not in taken],
    )
    few, rest = (InMemoryDataset.load(data, part) for part in parts)
    return few, rest


def _labels(job: Job) -> dict[str, str]:
    return {"model": job.model, "training": job.training}
