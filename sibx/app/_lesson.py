"""What a training from the workbench is: its settings, and the commands that it consists of."""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sibx._checks import check_choice, check_integer, require
from sibx._files import write_atomically
from sibx.app.networks import Network
from sibx.app.workbench import Workbench
from sibx.datasets import DATASETS, MaskedDataset, build_dataset
from sibx.evaluation.columns import naming
from sibx.models import about
from sibx.objectives.share import STEPS
from sibx.studies import RECIPES
from sibx.studies.recipes import TWO_STAGES
from sibx.train import TrainConfig
from sibx.train.trainings import Layers

Elsewhere = Literal["none", "own", "given"]
ELSEWHERE: Mapping[Elsewhere, str] = {
    "none": "have no mask: they teach their class alone",
    "own": "get the network's own masks",
    "given": "have the data set's masks",
}
# Taught with the masks, and equally long with those of other pictures and without any: what these reach is no merit of
# the masks.
TAUGHT, SHUFFLED, PLAIN = "sib", "sib-shuffled", "ce"
PARTS = ("train", "val", "test")
TRAININGS = (TAUGHT, SHUFFLED, PLAIN)
LARGE = 128  # pixels: from this side on pictures are photographs, and are trained on as such
BATCH, DRAWN = 16, 8
PICTURES = 400  # to train on, at most
VALIDATION = 100  # pictures
WITH_MASKS, WITHOUT = ("foreground_focus", "pointing_game"), ("insertion_minus_deletion",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The settings of one training.

    Attributes:
        dataset: key of DATASETS.
        root: folder of the data set, None if it needs none.
        image_size: side of the pictures in pixels.
        model: how build_model calls the network.
        start: words of the command line that say what it starts from.
        network: words of the command line that name the network as it is.
        methods: keys of METHODS that explain the test pictures.
        masked: whether the data set has masks for its test pictures.
        epochs: number of epochs.
        elsewhere: what the pictures are taught with that nobody drew on.
        train_images: number of pictures to train on at most; those that were drawn on come first.
        test_images: number of held-out pictures to judge by at most.

    Raises:
        ValueError: a number below 1, another word for ``elsewhere``, or masks that the data set does not have.
    """

    dataset: str
    root: str | None
    image_size: int
    model: str
    start: tuple[str, ...]
    network: tuple[str, ...]
    methods: tuple[str, ...]
    masked: bool
    epochs: int
    elsewhere: Elsewhere = "none"
    train_images: int = PICTURES
    test_images: int = 100

    def __post_init__(self) -> None:
        check_choice("elsewhere", self.elsewhere, get_args(Elsewhere))
        require(self.masked or self.elsewhere != "given", "elsewhere", "be none or own without masks", self.elsewhere)
        for name, least in (("epochs", 1), ("train_images", 2), ("test_images", 1)):
            check_integer(name, getattr(self, name), least)

    def commands(self, folder: Path) -> list[list[str]]:
        """Return the commands in their order, each as the words after ``sibx``.

        Args:
            folder: folder of the training, with its pictures in ``data``.
        """
        data = ["--dataset", "folder", "--root", str(folder / "data")]
        taught = [self._finetune(name, folder, data) for name in TRAININGS]
        scored = [command for name in TRAININGS for command in self._score(name, folder, data)]
        return [*taught, *scored, self._report(folder)]

    def _finetune(self, training: str, folder: Path, data: list[str]) -> list[str]:
        recipe = RECIPES["photographs" if self.image_size >= LARGE else "from-scratch"].tune
        usual = TrainConfig()
        batch = str(min(BATCH, self.train_images))
        names = ("learning_rate", "head_learning_rate", "augmentation", "batch_norm")
        changed = [n for n in names if getattr(recipe, n) != getattr(usual, n)]
        centers = ("--center-head",) if recipe.center_head else ()
        return [
            *("finetune", *data, "--model", self.model, *self.start, "--training", training),
            *("--image-size", str(self.image_size), "--epochs", str(self.epochs), "--batch-size", batch),
            *(word for n in changed for word in (f"--{n.replace('_', '-')}", str(getattr(recipe, n)))),
            *centers,
            *("--no-log-gradient-norms", "--draw-maps", str(DRAWN)),
            *(("--log-focus",) if self.masked else ()),
            *self._layers(training),
            *("--resume", "--out", str(run_folder(folder, training))),
        ]

    @property
    def layers(self) -> Layers:
        """Where S-IB takes its VJPs: on photographs as studies do."""
        return TWO_STAGES if self.image_size >= LARGE else "auto"

    def _layers(self, training: str) -> list[str]:
        if training == PLAIN or self.layers == "auto":
            return []
        return ["--objective-options", f"layers={json.dumps(self.layers)}"]

    def _score(self, training: str, folder: Path, data: list[str]) -> list[list[str]]:
        common = [*data, "--split", "test", "--checkpoint", str(run_folder(folder, training) / "model.pt"), "--resume"]
        metrics = WITH_MASKS if self.masked else WITHOUT
        explain = ["evaluate", *common, "--methods", *self.methods, "--metrics", *metrics, "--gallery", str(DRAWN)]
        return [
            [*explain, "--out", str(scores_folder(folder, training))],
            ["reliance", *common, "--out", str(scores_folder(folder, training, "reliance"))],
        ]

    def _report(self, folder: Path) -> list[str]:
        kinds = ("scores", "reliance")
        parts = [str(scores_folder(folder, name, kind)) for name in TRAININGS for kind in kinds]
        logs = [f"{name}={run_folder(folder, name) / 'log.csv'}" for name in TRAININGS]
        pairs = [f"{TAUGHT}:{PLAIN}", f"{TAUGHT}:{SHUFFLED}"]
        return ["report", *parts, "--compare", *pairs, "--logs", *logs, "--out", str(folder / "report")]


def run_folder(folder: Path, training: str) -> Path:
    """Return where a training leaves its network and its log."""
    return folder / training


def scores_folder(folder: Path, training: str, kind: str = "scores") -> Path:
    """Return where the scores of a training lie."""
    return folder / kind / training


def as_typed(command: list[str]) -> str:
    """Return a command as it is typed into a shell."""
    return shlex.join(["sibx", *command])


def usual_epochs(pictures: int) -> int:
    """Return how many epochs on so many pictures make STEPS steps; at most 30, which are looked at one by one."""
    taken = max(1, min(pictures, PICTURES) // BATCH)  # a last batch that is smaller is left out
    return min(30, math.ceil(STEPS / taken))


def starts_anew(workbench: Workbench) -> str:
    """Return in words that the network of a workbench has to learn the classes first; "" if it knows them."""
    if workbench.knows_labels:
        return ""
    return (
        "The network does not know these classes: it gets a new head, and S-IB pulls only as far as the labels are "
        "fitted. Better start from one that was trained on them: `sibx finetune --training ce`, then `--checkpoint`."
    )


def why_not(workbench: Workbench) -> str:
    """Return in words why nothing can be taught to the network of a workbench; "" if something can."""
    name = words_of(workbench.options).get("dataset")
    network = workbench.networks[0]
    if name is None:
        return "These pictures have no labels to learn. Start with a data set: `sibx app --dataset NAME --root FOLDER`."
    if workbench.data.several_labels:
        return f"The pictures of {name} have several labels each; corrections are for one label per picture."
    missing = [part for part in PARTS if not _splits(name, part)]
    if missing:
        return f"{name} has no split {' and '.join(missing)}."
    return "" if _model(network) else f"It is not known how {network.name} is built. Start with `--model NAME`."


def plan(workbench: Workbench, masked: bool, **settings: Any) -> Lesson:
    """Return the lesson for the first network of a workbench.

    Args:
        workbench: the workbench.
        masked: whether its data set has masks for test pictures.
        **settings: further fields of Lesson.

    Raises:
        ValueError: nothing can be taught, or a setting that means nothing.
    """
    require(not why_not(workbench), "dataset", "be one that a network can learn from", why_not(workbench))
    network, data = workbench.networks[0], words_of(workbench.options)
    named = words_of(network.options)
    return Lesson(
        dataset=data["dataset"],
        root=data.get("root"),
        image_size=network.eye.image_size,
        model=_model(network),
        start=tuple(word for key in ("checkpoint", "weights") if key in named for word in (f"--{key}", named[key])),
        network=network.options,
        methods=workbench.methods,
        masked=masked,
        **settings,
    )


def build_splits(workbench: Workbench, part: str) -> list[MaskedDataset]:
    """Return the pictures of a part of a workbench's data set as its first network sees them.

    Args:
        workbench: the workbench.
        part: ``train``, ``val`` or ``test``; some data sets have several splits of the last.
    """
    data, eye = words_of(workbench.options), workbench.networks[0].eye
    return read_splits(data["dataset"], data.get("root"), part, eye.image_size, normalization=eye.normalization)


def read_splits(dataset: str, root: str | None, part: str, image_size: int, **options: Any) -> list[MaskedDataset]:
    """Return the pictures of a part of a data set, which may be several splits."""
    return [build_dataset(dataset, root, split, image_size, **options) for split in _splits(dataset, part)]


def words_of(options: tuple[str, ...]) -> dict[str, str]:
    """Return options of the command line, a name and a value each, by their names."""
    return {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}


def write_lesson(lesson: Lesson, folder: Path) -> None:
    """Note the settings of a training in its folder."""
    write_atomically(folder / "lesson.json", (json.dumps(asdict(lesson), indent=2) + "\n").encode())


def read_lesson(folder: Path) -> Lesson:
    """Return the settings of a training from its folder.

    Raises:
        ValueError: there are none that can be read.
    """
    path = folder / "lesson.json"
    with naming(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return Lesson(**values)


def _splits(dataset: str, part: str) -> list[str]:
    return [split for split in DATASETS[dataset].splits if split == part or split.startswith(f"{part}-")]


def _model(network: Network) -> str:
    return words_of(network.options).get("model") or about(network.eye.model).model or ""
