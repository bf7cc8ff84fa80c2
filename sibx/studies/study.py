"""What is asked for: which trainings of which models on which data sets, and how they are scored."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from sibx._checks import check_choice, check_integer, look_up, require
from sibx._imported import imported
from sibx._outputs import Output, check_output
from sibx.attribution import resolve_methods
from sibx.attribution.chosen import asks_all
from sibx.datasets import DATASETS
from sibx.metrics import to_metric
from sibx.models import MODELS, SOURCES, build_model
from sibx.studies.job import Group, Job, jobs_of
from sibx.studies.recipes import RECIPES, TWO_STAGES, Recipe
from sibx.studies.typed import check_types
from sibx.train import TRAININGS, TrainConfig, TrainingSpec
from sibx.train.config import PROGRAMS
from sibx.train.trainings import SHUFFLED, Layers

ATTRIBUTION = ("sib", "vjp", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam")
CONTROLS = ("control_abs_input", "control_input_contrast", "control_edges", "control_center", "control_random")
CHANGEABLE = tuple(f.name for f in fields(TrainConfig) if f.name not in (*PROGRAMS, "output"))  # by start and tune
LOCALIZATION = ("foreground_focus", "foreground_lift", "background_suppression", "pointing_game")


@dataclass(frozen=True)
class Study:
    """Trainings that are compared, and how; every field is a key of a study's file and an option of ``sibx study``.

    Attributes:
        name: name of the folder for the results; default the data sets and the models.
        dataset: key of DATASETS, or a list of them.
        model: key of MODELS, ``timm/<name>``, ``hf/<name>``, ``module:function`` with a function of your own that takes
            the number of classes and returns a model, or a list of them.
        seed: seed of weights, order, augmentation and shuffling, or a list of seeds.
        trainings: keys of TRAININGS, or ``module:name`` with a TrainingSpec of your own.
        compare: further gains to ask for, ``TRAINING:REFERENCE``, beside those over ``ce`` and over the controls.
        settings: training: {setting: value}, other values than its own of settings of its objective or stages, such as
            {rrr: {weight: 10}}; its control has them, too.
        checkpoint: whether trainings start from a checkpoint that was trained with cross-entropy; if not, they start
            from the model as it is built and train with the settings of ``start``.
        output: what the models' numbers are: ``softmax``: one per class; ``sigmoid``: one per label, or a single one
            for two classes; ``auto``: ``softmax``.
        criterion: ``module:function`` with a criterion of your own, (logits, labels) -> loss, instead of the output's
            usual one; default none.
        weights: what models of the table start with: null = random weights, "default" = torchvision's or timm's, or the
            path of a state dict.
        image_size: side of the images in pixels; default each data set's.
        recipe: ``photographs`` or ``from-scratch``, which the settings of the trainings start from; default
            ``photographs`` where there are weights.
        start: fields of TrainConfig that differ from the recipe's, for the checkpoint.
        tune: fields of TrainConfig that differ from the recipe's, for the trainings.
        epochs: number of epochs, of the checkpoint and of the trainings.
        layers: model: {layer: weight}, where S-IB takes its VJPs; default the last feature map, with weights the end of
            the stage before it too: {"stage:-2": 1, "stage:-1": 1}.
        options: data set: {option: value}, passed to build_dataset.
        folders: data set: its folder below the root.
        images: data set: {split: number}, for a dry run where the data is not at hand.
        methods: keys of METHODS, or ``module:name`` of your own; ``all``: all that apply to each model.
        controls: keys of METHODS that never look at the model.
        localization: keys of METRICS, or ``module:name`` of your own, for ``test_images``.
        faithfulness: keys of METRICS, or ``module:name``, for ``perturbed_images``.
        explained: test splits whose images are explained; default all of them.
        train_images: number of images to train on at most, spread over the set; default all.
        test_images: number of images per explained split; default the recipe's, 64, or 40 for photographs.
        perturbed_images: number of these that are perturbed (57 forward passes each); default 24, or 12.
        reliance_images: number of images per test split that get other backgrounds; all images count for accuracy.
        batch_size: number of images per pass of the scoring.
    """

    name: str | None = None
    dataset: str | list[str] = "synthetic"
    model: str | list[str] = "tiny_cnn"
    seed: int | list[int] = 0
    trainings: list[str] = field(default_factory=lambda: ["ce", "sib", "sib-self-cut", "sib-self-cut-shuffled"])
    compare: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoint: bool = True
    output: Output = "auto"
    criterion: str | None = None
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
    methods: list[str] = field(default_factory=lambda: [*ATTRIBUTION])
    controls: list[str] = field(default_factory=lambda: [*CONTROLS])
    localization: list[str] = field(default_factory=lambda: [*LOCALIZATION])
    faithfulness: list[str] = field(default_factory=lambda: ["deletion", "insertion"])
    explained: list[str] = field(default_factory=list)
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
        """Models as they are named."""
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return [self.seed] if isinstance(self.seed, int) else self.seed

    @property
    def explainers(self) -> list[str]:
        """The methods and the controls, as ``evaluate`` takes them."""
        return self.methods if asks_all(self.methods) else [*self.methods, *self.controls]

    @property
    def method_names(self) -> list[str]:
        """What the methods are called in results; the controls are not among them."""
        return [s.name for s in resolve_methods(self.methods) if s.kind != "control" or not asks_all(self.methods)]

    @property
    def localization_names(self) -> list[str]:
        """What the localization metrics are called in results."""
        return [to_metric(metric, argument="localization").name for metric in self.localization]

    @property
    def title(self) -> str:
        """The name of its folder."""
        return self.name or f"{'+'.join(self.datasets)}-{'+'.join(self.models)}".replace("/", "-").replace(":", "-")

    def groups(self) -> list[Group]:
        """Return all groups of jobs, seed by seed: a study that is cut short has something of every data set."""
        return [Group(d, m, s) for s in self.seeds for d in self.datasets for m in self.models]

    def jobs(self) -> list[Job]:
        """Return all jobs, those of a group side by side, what others need first."""
        return [
            job
            for group in self.groups()
            for job in jobs_of(group, self.readings(group.model), checkpoint=self.checkpoint)
        ]

    def specs(self) -> list[TrainingSpec]:
        """Return the trainings, with their settings."""
        specs = [imported("trainings", t) if ":" in t else look_up("trainings", t, TRAININGS) for t in self.trainings]
        return [spec.changed(self.settings.get(spec.name.removesuffix(SHUFFLED), {})) for spec in specs]

    def specs_at(self, model: str) -> dict[str, TrainingSpec]:
        """Return name -> training, with the layers of a model filled in."""
        layers: Layers = self.recipe_for(model).layers or "auto"
        return {spec.name: spec.at(layers) for spec in self.specs()}

    def readings(self, model: str) -> dict[str, str | None]:
        """Return training -> the first one that learns from the same masks of the checkpoint's own; None = no such."""
        first: list[TrainingSpec] = []
        found: dict[str, str | None] = {}
        for name, spec in self.specs_at(model).items():
            first += [spec] if spec.reading and spec.reading not in [other.reading for other in first] else []
            found[name] = next((other.name for other in first if other.reading == spec.reading), None)
        return found

    def size_of(self, dataset: str) -> int:
        """Return the side of a data set's images in pixels."""
        return self.image_size or DATASETS[dataset].image_size

    def explains(self, split: str) -> bool:
        """Whether maps of a split's images are scored."""
        return split in self.explained if self.explained else split.startswith("test")

    def build(self, model: str, classes: int) -> nn.Module:
        """Build a model."""
        if ":" not in model:
            return build_model(model, classes, self.weights)
        network = imported("model", model)(classes)
        require(isinstance(network, nn.Module), "model", "be module:function that returns a torch module", network)
        built: nn.Module = network
        return built

    def recipe_for(self, model: str) -> Recipe:
        """Return how a model is trained and how many images are explained."""
        base = RECIPES[self.recipe or ("photographs" if self.weights else "from-scratch")]
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        criterion = imported("criterion", self.criterion) if self.criterion else None
        start, tune = (replace(c, output=self.output, criterion=criterion) for c in (base.start, base.tune))
        return Recipe(
            start=_changed(start, self.start | epochs, "start"),
            tune=_changed(tune, self.tune | epochs, "tune"),
            layers=self.layers.get(model) or (TWO_STAGES if self.weights else None),
            test_images=self.test_images or base.test_images,
            perturbed_images=base.perturbed_images if self.perturbed_images is None else self.perturbed_images,
        )

    def check(self) -> None:
        """Raise ValueError for settings and names that do not exist, before anything runs."""
        check_types(self)
        check_output(self.output)
        require(self.output != "raw", "output", "be 'softmax' or 'sigmoid' for a study of classifiers", self.output)
        for name in ("datasets", "models", "seeds", "trainings"):
            values = getattr(self, name)
            require(len(set(values)) == len(values) > 0, name[:-1], "name at least one, and none twice", values)
        for name in ("image_size", "epochs", "train_images", "test_images", "batch_size"):
            value = getattr(self, name)
            check_integer(name, 1 if value is None else value, 1)
        self._check_names()
        for model in self.models:
            self._check_model(model)

    def _check_names(self) -> None:
        for name in self.datasets:
            look_up("dataset", name, DATASETS)
        resolve_methods(self.explainers)
        for metric in (*self.localization, *self.faithfulness):
            to_metric(metric, argument="metrics")
        trainings = [spec.name for spec in self.specs()]
        require(len(set(trainings)) == len(trainings), "trainings", "have different names", trainings)
        for name in (name for pair in self.compare for name in pair.split(":")):
            check_choice("compare", name, tuple(trainings))
        for name in self.settings:
            check_choice("settings", name, tuple(name.removesuffix(SHUFFLED) for name in trainings))
        for split in self.explained:
            check_choice("explained", split, tuple(s for d in self.datasets for s in DATASETS[d].splits))

    def _check_model(self, model: str) -> None:
        if ":" in model:
            imported("model", model)
        elif not model.startswith(tuple(SOURCES)):
            look_up("model", model, MODELS)
        own = [name for name, reading in self.readings(model).items() if reading]
        require(self.checkpoint or not own, "checkpoint", f"be true for the own masks of {own}", self.checkpoint)

    def identify(self) -> dict[str, Any]:
        """Say which study this is, in the values that JSON has; where weights lie does not matter.

        ``start`` and ``tune`` have all their fields: what a recipe says may change from version to version.
        """
        recipe = self.recipe_for(self.models[0])
        trained = {"start": recipe.start, "tune": recipe.tune}
        settings = asdict(replace(self, weights=self.weights and Path(self.weights).name))
        said = {name: value for name, value in settings.items() if name not in ("name", "folders", "images", *trained)}
        # Last, so that an error names what was asked for before what follows from it.
        said |= {name: {field: getattr(c, field) for field in CHANGEABLE} for name, c in trained.items()}
        return dict(json.loads(json.dumps(said)))


def _changed(config: TrainConfig, changes: dict[str, Any], argument: str) -> TrainConfig:
    for name in changes:
        check_choice(argument, name, CHANGEABLE)
    return replace(config, **changes)
