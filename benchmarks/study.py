"""What run_all.py is asked for: which trainings of which models on which data sets, and how they are scored."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn
from trainings import BASELINES, FROM_SCRATCH, MIDDLE_LAYERS, PRE_TRAINED, Recipe

from sibx import METRICS, build_dataset, build_model
from sibx.attribution import METHODS, build_method
from sibx.datasets import DATASETS
from sibx.models import MODELS
from sibx.train import TrainConfig

ATTRIBUTION = ["sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam"]
CONTROLS = ["control_abs_input", "control_input_contrast", "control_edges", "control_center", "control_random"]
LOCALIZATION = ["foreground_focus", "foreground_lift", "background_suppression", "pointing_game"]
FAITHFULNESS = ["deletion", "insertion"]
OWN = ("sib-self", "sib-shuffled")
CUT = ("sib-self-cut", "sib-self-cut-shuffled", "sib-self-background", "sib-self-background-shuffled")
TRAININGS = (
    *("ce", "sib", "sib-given-shuffled", "sib-background", "sib-background-shuffled"),
    *OWN,
    *CUT,
    "sib-published",
    *BASELINES,
)
START = "start"  # the job that every other of its data set, model and seed waits for


@dataclass(frozen=True)
class Job:
    """One training with its scores, or the checkpoint that trainings start from (START)."""

    dataset: str
    model: str
    seed: int
    training: str

    @property
    def group(self) -> "Job":
        """The job whose checkpoint this one needs."""
        return replace(self, training=START)

    @property
    def folder(self) -> Path:
        """Where the group's checkpoint and trainings lie, below the study's folder."""
        return Path("cells", f"{self.dataset}-{self.model.replace('/', '-')}", f"seed-{self.seed}")

    def __str__(self) -> str:
        return f"{self.dataset}, {self.model}, seed {self.seed}, {self.training}"


@dataclass(frozen=True)
class Study:
    """What is trained and scored; every field is a key of the files in configs/ and an option of the command line.

    Attributes:
        name: of the folder for the results; default the data sets and the models.
        dataset: key of DATASETS, or a list of them.
        model: key of MODELS (or timm/<name>), or a list of them.
        seed: of weights, order, augmentation and shuffling, or a list of them.
        trainings: of TRAININGS.
        weights: null = train from scratch, "default" = torchvision's or timm's, or the path of a state dict.
        image_size: side of the images in pixels; default each data set's.
        recipe: default "photographs" where there are weights to start from, else "from-scratch"; see trainings.py.
        start: fields of TrainConfig that differ from the recipe's, for the checkpoint that the trainings start from.
        tune: the same for the trainings.
        epochs: of both.
        layers: model: {layer: weight}, where S-IB takes its VJPs; default the last feature map, for MobileNetV2 with
            weights a middle layer too.
        options: data set: {option: value}, passed to build_dataset.
        folders: data set: its folder below the root.
        images: data set: {split: number}, for a dry run where the data is not at hand.
        methods: keys of METHODS.
        controls: those among them that never look at the model.
        localization: keys of METRICS, on test_images.
        faithfulness: keys of METRICS, on perturbed_images.
        train_images: at most so many to train on, spread over the set; default all.
        test_images: so many per test split are explained; default the recipe's 64, 40 for photographs.
        perturbed_images: so many of these are perturbed (57 forward passes each); default 24, 12.
        reliance_images: so many per test split get other backgrounds; all count for accuracy.
        batch_size: of the scoring.
    """

    name: str | None = None
    dataset: str | list[str] = "synthetic"
    model: str | list[str] = "tiny_cnn"
    seed: int | list[int] = 0
    trainings: list[str] = field(default_factory=lambda: ["ce", "sib", "sib-self-cut", "sib-self-cut-shuffled"])
    weights: str | None = None
    image_size: int | None = None
    recipe: Literal["from-scratch", "photographs"] | None = None
    start: dict[str, Any] = field(default_factory=dict)
    tune: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    layers: dict[str, dict[str, float]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    methods: list[str] = field(default_factory=lambda: list(ATTRIBUTION))
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    localization: list[str] = field(default_factory=lambda: list(LOCALIZATION))
    faithfulness: list[str] = field(default_factory=lambda: list(FAITHFULNESS))
    train_images: int | None = None
    test_images: int | None = None
    perturbed_images: int | None = None
    reliance_images: int = 64
    batch_size: int = 32

    @property
    def datasets(self) -> list[str]:
        """Keys of DATASETS."""
        return [self.dataset] if isinstance(self.dataset, str) else self.dataset

    @property
    def models(self) -> list[str]:
        """Keys of MODELS."""
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return [self.seed] if isinstance(self.seed, int) else self.seed

    @property
    def title(self) -> str:
        """The name of its folder."""
        return self.name or f"{'+'.join(self.datasets)}-{'+'.join(self.models)}".replace("/", "-")

    def jobs(self) -> list[Job]:
        """Return all jobs, those that share data and checkpoint side by side, the checkpoint first."""
        names = (START, *self.trainings)
        return [Job(d, m, s, t) for d in self.datasets for m in self.models for s in self.seeds for t in names]

    def size_of(self, dataset: str) -> int:
        """Return the side of a data set's images."""
        return self.image_size or DATASETS[dataset].image_size

    def recipe_for(self, model: str) -> Recipe:
        """Return how a model is trained and how many images are explained."""
        by_weights = "photographs" if self.weights else "from-scratch"
        base = {"photographs": PRE_TRAINED, "from-scratch": FROM_SCRATCH}[self.recipe or by_weights]
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return Recipe(
            start=_changed(base.start, self.start | epochs, "start"),
            tune=_changed(base.tune, self.tune | epochs, "tune"),
            layers=self.layers.get(model) or (MIDDLE_LAYERS.get(model) if self.weights else None),
            test_images=self.test_images or base.test_images,
            perturbed_images=base.perturbed_images if self.perturbed_images is None else self.perturbed_images,
        )

    def check(self) -> None:
        """Raise ValueError for names and settings that do not exist, before anything runs."""
        for dataset in self.datasets:
            if dataset not in DATASETS:
                build_dataset(dataset)  # says which there are
        for model in self.models:
            if model not in MODELS and not model.startswith("timm/"):
                build_model(model, 1)
            self.recipe_for(model)
        for method in (*self.methods, *self.controls):
            if method not in METHODS:
                build_method(method, nn.Identity())
        _require_known("trainings", self.trainings, TRAININGS)
        _require_known("metrics", [*self.localization, *self.faithfulness], METRICS)

    def identify(self) -> dict[str, Any]:
        """Say which study this is, in the values that JSON has; where weights lie does not matter."""
        weights = self.weights and Path(self.weights).name
        settings: dict[str, Any] = json.loads(json.dumps(asdict(replace(self, weights=weights))))
        return {name: value for name, value in settings.items() if name not in ("name", "folders", "images")}


@dataclass(frozen=True)
class Place:
    """Where and how a study runs; its results do not depend on it, up to the rounding of the device and its threads.

    Attributes:
        root: folder of the data; not needed for ``synthetic``.
        out: folder for the study's folder.
        resume: go on with what an interrupted run left there, from the start where there is nothing.
        dry_run: say what would run and how long it would take, and stop.
        threads: of torch; default its own choice.
        device: where to compute; default a GPU if there is one. Under torchrun every process takes its own.
    """

    root: str | None = None
    out: Path = Path("results")
    resume: bool = False
    dry_run: bool = False
    threads: int | None = None
    device: str | None = None


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Say in which settings two studies differ."""
    for name in {**theirs, **ours}:
        if ours.get(name) != theirs.get(name):
            yield f"{name} = {theirs.get(name)!r}, now {ours.get(name)!r}"


def _changed(config: TrainConfig, changes: dict[str, Any], argument: str) -> TrainConfig:
    _require_known(argument, list(changes), [f.name for f in fields(TrainConfig) if f.name != "objective"])
    return replace(config, **changes)


def _require_known(argument: str, names: list[str], known: Any) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"`{argument}` must name only {', '.join(known)}, but got {unknown}.")
