"""What a study says about a trained model: scores of its maps, its accuracy on other backgrounds, and pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sibx.datasets import DATASETS, MaskedDataset, Part, spread
from sibx.evaluation import Results, evaluate, evaluate_reliance, label_scores
from sibx.evaluation.class_match import match_classes
from sibx.evaluation.label_rates import NOTED, label_rates
from sibx.models import eval_mode
from sibx.report import make_gallery, save_gallery
from sibx.runs.place import pick_device, placed
from sibx.studies.job import Job
from sibx.studies.study import Study

SHOWN = 18  # pictures of a study, spread over data sets, models and splits


@dataclass(frozen=True)
class Scorer:
    """Scores one trained model.

    Attributes:
        study: says how.
        job: whose model.
        folder: folder of the job; unfinished scores lie in ``training`` below it.
        progress: whether to show progress bars.
        workers: number of processes that read the images ahead.
    """

    study: Study
    job: Job
    folder: Path
    progress: bool
    workers: int = 0

    def score(self, model: nn.Module, splits: Mapping[str, MaskedDataset], info: Mapping[str, Any]) -> Results:
        """Explain the test images and score the maps, and the classifier on other backgrounds."""
        parts: list[Results] = []
        evaluation: dict[str, Any] = {}
        for split, data in splits.items():
            if split.startswith("test"):
                explained = list(self._explain(data, model)) if self.study.explains(split) else []
                evaluation = evaluation or (explained[0].info if explained else {})
                parts += [*explained, *self._rely(data, model)]
        tests = {name: data for name, data in splits.items() if name.startswith("test")}
        labels = {name: self._of_labels(model, data) for name, data in tests.items() if self._asks_labels(data)}
        noted = [line for data in tests.values() for line in self._rates_of(model, data)]  # of all images of a split
        rates = {NOTED: noted} if noted else {}
        return Results.concat(parts, {**info, "evaluation": evaluation, "label_scores": labels, **rates})

    def draw(self, model: nn.Module, splits: Mapping[str, MaskedDataset]) -> None:
        """Keep the maps of some of the images, of the first seed."""
        if self.job.group.seed != self.study.seeds[0]:
            return
        shown = {d: [s for s in DATASETS[d].splits if self.study.explains(s)] for d in self.study.datasets}
        images = max(1, SHOWN // (len(self.study.models) * sum(map(len, shown.values())))) if any(shown.values()) else 0
        items = [
            item
            for split in shown[self.job.group.dataset]
            for item in make_gallery(
                {self.job.name: model},
                self._explained(splits[split]),  # pictures of images that have scores
                methods=self.study.methods,
                images=images,
                model=self.job.group.model,
                output=self.study.output,
            )
        ]
        save_gallery(items, self.folder)

    def _explained(self, data: MaskedDataset) -> MaskedDataset:
        return some(data, self.study.recipe_for(self.job.group.model).test_images)

    def _explain(self, data: MaskedDataset, model: nn.Module) -> Iterator[Results]:
        study = self.study
        count = study.recipe_for(self.job.group.model).perturbed_images
        perturbed, rest = divide(self._explained(data), count if study.faithfulness else 0)
        metrics = {"perturbed": [*study.localization, *study.faithfulness], "rest": study.localization}
        for name, images in {"perturbed": perturbed, "rest": rest}.items():
            if len(images):
                yield evaluate(
                    model,
                    images,
                    methods=study.explainers,
                    metrics=metrics[name],
                    output=study.output,
                    labels=self._labels,
                    batch_size=study.batch_size,
                    workers=self.workers,
                    seed=self.job.group.seed,
                    out_dir=self.folder / "training" / data.split / name,
                    resume=True,
                    progress=self.progress,
                )

    def _rely(self, data: MaskedDataset, model: nn.Module) -> Iterator[Results]:
        """Every image as it is, which says how accurate the model is; some of them with other backgrounds."""
        changed, rest = divide(data, self.study.reliance_images)
        rely = partial(
            evaluate_reliance,
            model,
            output=self.study.output,
            labels=self._labels,
            batch_size=self.study.batch_size,
            workers=self.workers,
            seed=self.job.group.seed,
            progress=self.progress,
        )
        if len(changed):
            yield rely(changed)
        if len(rest):
            yield rely(rest, backgrounds=())

    def _asks_labels(self, data: MaskedDataset) -> bool:
        """Whether an accuracy says too little: of several labels, and of a single one that is there or not."""
        return data.several_labels or self.study.output == "sigmoid"

    def _of_labels(self, model: nn.Module, data: MaskedDataset) -> dict[str, float]:
        """Mean average precision, and macro ROC-AUC and F1, of labels that some images have and others have not."""
        scores = label_scores(model, data, output=self.study.output, workers=self.workers)
        means = scores[["average_precision", "roc_auc", "f1"]].mean()
        return {str(name): float(value) for name, value in means.items()}

    def _rates_of(self, model: nn.Module, data: MaskedDataset) -> list[dict[str, Any]]:
        """The rates of several labels per image, with their intervals; [] of one label."""
        device = pick_device(model, None)
        about = {"dataset": data.name, "split": data.split, **self._labels, "seed": self.job.group.seed}
        with placed(model, device), eval_mode(model):
            matched = match_classes(model, data, None, self.study.output)
            return label_rates(matched, about, batch_size=self.study.batch_size, workers=self.workers, device=device)

    @property
    def _labels(self) -> dict[str, str]:
        return {"model": self.job.group.model, "training": self.job.name}


def some(data: MaskedDataset, count: int) -> MaskedDataset:
    """At most so many images, spread over the set."""
    return Part(data, spread(len(data), count))


def divide(data: MaskedDataset, count: int) -> tuple[MaskedDataset, MaskedDataset]:
    """Divide images into at most so many, spread over the set, and the others."""
    taken = set(spread(len(data), count))
    parts = [[i for i in range(len(data)) if (i in taken) == wanted] for wanted in (True, False)]
    few, rest = (Part(data, part) for part in parts)
    return few, rest
