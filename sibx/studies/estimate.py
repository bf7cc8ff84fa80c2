"""What a study would cost: passes through the network, counted in small, times a short measurement of one.

Counted are images that go forward through the first layer of a network, and gradients that come back to it, while a few
small images are trained on, explained and scored as the study asks: on TinyCNN, for speed, where their number does not
depend on the network; on the network itself for methods that need a layer. What is not a whole pass (to a layer in the
middle, or drawing, sorting, inpainting) is not counted, nor what a training does before and after ``fine_tune``: the
time is a lower bound, and a loose one for small networks.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx.attribution import MethodSpec, resolve_methods
from sibx.attribution.fitting import why_not
from sibx.datasets import DATASETS, InMemoryDataset, build_dataset
from sibx.evaluation import evaluate
from sibx.images import BACKGROUNDS
from sibx.models import SOURCES, TinyCNN, about
from sibx.objectives import SIBConfig, self_masks
from sibx.runs.normalized import as_trained
from sibx.studies.job import PARTS, Job
from sibx.studies.lessons import lesson, masks_of
from sibx.studies.study import Study
from sibx.studies.study_place import Place
from sibx.train import fine_tune
from sibx.train.trainings import Layers

CLASSES = 8  # of the images that are counted with
MEASURED = 4  # images in the passes that are timed
COUNTED_SIDE, TINY_SIDE = 64, 32  # pixels of the images that are counted with: passes do not depend on it
REPEATS = 2


@dataclass(frozen=True)
class Passes:
    """Images through the forward pass, and through the backward pass."""

    forward: float = 0.0
    backward: float = 0.0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: "Passes") -> "Passes":
        return Passes(self.forward - other.forward, self.backward - other.backward)

    def __mul__(self, times: float) -> "Passes":
        return Passes(self.forward * times, self.backward * times)


@dataclass(frozen=True)
class Gauge:
    """What one image costs with one model at one size.

    Attributes:
        explain: to explain and to localize.
        perturb: what faithfulness takes on top.
        masks: to get the model's own mask.
        step: training -> to be learned from once.
        seconds: time of one image's forward pass, and of its backward pass.
    """

    explain: Passes
    perturb: Passes
    masks: Passes
    step: Mapping[str, Passes]
    seconds: Passes

    def time(self, passes: Passes) -> float:
        """Return how many seconds passes take."""
        return passes.forward * self.seconds.forward + passes.backward * self.seconds.backward


@dataclass(frozen=True)
class Cost:
    """Of one job."""

    passes: Passes
    seconds: float


def estimate(study: Study, place: Place, device: torch.device) -> dict[Job, Cost]:
    """Return what every job of a study costs; the data need not be at hand if the study says how much there is."""
    counts = {d: count_images(study, place, d) or study.images.get(d, {}) for d in study.datasets}
    gauges: dict[tuple[str, int], Gauge] = {}
    costs = {}
    for job in study.jobs():
        key = job.group.model, study.size_of(job.group.dataset)
        if key not in gauges:
            gauges[key] = measure(study, *key, device)
        passes = passes_of(study, job, counts[job.group.dataset], gauges[key])
        costs[job] = Cost(passes, gauges[key].time(passes))
    return costs


def count_images(study: Study, place: Place, dataset: str) -> dict[str, int] | None:
    """Return the number of images per split, None if the data is not at hand."""
    options, size = study.options.get(dataset, {}), study.size_of(dataset)
    try:
        root = place.root_of(study, dataset)
        return {s: len(build_dataset(dataset, root, s, size, **options)) for s in DATASETS[dataset].splits}
    except ValueError:
        return None


def measure(study: Study, model: str, size: int, device: torch.device) -> Gauge:
    """Count and time what one image costs."""
    recipe = study.recipe_for(model)
    side = size if model.startswith(tuple(SOURCES)) else COUNTED_SIDE  # transformers have a size of their own
    network = study.build(model, CLASSES).to(device)
    large, small = (build_dataset("synthetic", None, "train", s) for s in (side, TINY_SIDE))
    large = as_trained(about(network).normalization, large)
    images, small = (InMemoryDataset.load(data, range(4)) for data in (large, small))
    tiny = TinyCNN(CLASSES).to(device)
    step = {}
    # Which layers those are makes no difference to whole passes; the input does.
    layers: Layers = {"input": 1.0, "features": 1.0} if "input" in (recipe.layers or {}) else "auto"
    for spec in (spec.at(layers) for spec in study.specs()):
        _, objective = lesson(spec, small, masks_of(small) if spec.reading else None, 0)
        config = replace(recipe.tune, objective=objective, output="auto", criterion=None, epochs=1, batch_size=2)
        config = replace(config, accumulate=1, warm_up=0.0)
        step[spec.name] = _count(tiny, small, partial(fine_tune, tiny, config=config, progress=False))
    masks = _count(tiny, small, partial(self_masks, tiny, config=SIBConfig.recommended("self"), progress=False))
    methods = resolve_methods(study.explainers)
    foreign = why_not(methods, tiny.eval(), small[0].image[None].to(device))  # that the small network cannot stand for
    methods = [m for m in methods if m.name not in foreign]
    layered = [m for m in methods if m.needs_layer]
    free = [m for m in methods if not m.needs_layer]
    scored = _scoring(tiny, small, methods, study.localization)
    perturb = _scoring(tiny, small, methods, [*study.localization, *study.faithfulness]) - scored
    explain = _scoring(network, images, layered, study.localization) + _scoring(tiny, small, free, study.localization)
    return Gauge(explain, perturb, masks, step, _time_passes(network, size, device))


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    """Within the block, count images at the first layer: [forward, backward]; copies made of the network count too."""
    passes = [0, 0]

    def went_back(gradient: Tensor) -> None:
        passes[1] += len(gradient)

    def went_forward(_: nn.Module, __: object, features: Tensor) -> None:
        passes[0] += len(features)
        if features.requires_grad:
            features.register_hook(went_back)

    first = next(module for module in network.modules() if not list(module.children()))
    handle = first.register_forward_hook(went_forward)
    try:
        yield passes
    finally:
        handle.remove()


def _count(network: nn.Module, images: InMemoryDataset, work: Callable[[InMemoryDataset], object]) -> Passes:
    """What one image more costs; what a call does once does not count."""
    totals = []
    for number in (2, 4):  # a training step takes two
        with counted(network) as passes:
            work(InMemoryDataset.load(images, range(number)))
        totals.append(Passes(*passes))
    return (totals[1] - totals[0]) * 0.5


def _scoring(network: nn.Module, images: InMemoryDataset, methods: list[MethodSpec], metrics: list[str]) -> Passes:
    if not methods or not metrics:
        return Passes()
    run = partial(evaluate, network, methods=methods, metrics=metrics, progress=False)
    run(InMemoryDataset.load(images, range(1)))  # what is looked up once per network
    return _count(network, images, run) - Passes(1)  # the pass that says what is predicted


def _time_passes(network: nn.Module, size: int, device: torch.device) -> Passes:
    """Seconds of one image's forward and backward pass: the quickest of a few batches."""
    batch = torch.rand(MEASURED, 3, size, size, device=device)
    labels = torch.zeros(MEASURED, dtype=torch.int64, device=device)
    learning = copy.deepcopy(network).train()
    forward, both = [], []
    for _ in range(REPEATS):
        with torch.inference_mode():
            forward.append(_clock(lambda: learning(batch), device))
        both.append(_clock(lambda: F.cross_entropy(learning(batch), labels).backward(), device))
    quickest = min(forward) / MEASURED
    return Passes(quickest, max(0.0, min(both) / MEASURED - quickest))


def _clock(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def passes_of(study: Study, job: Job, images: Mapping[str, int], gauge: Gauge) -> Passes:
    """Return what a job costs, of so many images per split; cutting own masks along edges is not counted."""
    recipe = study.recipe_for(job.group.model)
    train, val = images.get("train", 0), images.get("val", 0)
    train = min(train, study.train_images or train)
    if job.kind == "start":
        return (Passes(train, train) + Passes(val)) * recipe.start.epochs
    if job.kind == "masks":
        return gauge.masks * (train / PARTS)
    config = recipe.tune if study.checkpoint else recipe.start
    passes = (gauge.step[job.name] * train + Passes(val)) * config.epochs
    for split, count in images.items():
        if split.startswith("test"):
            explained = min(count, recipe.test_images) if study.explains(split) else 0
            changed = min(count, study.reliance_images)
            passes += gauge.explain * explained + gauge.perturb * min(explained, recipe.perturbed_images)
            passes += Passes(explained + count + len(BACKGROUNDS) * changed)  # what is predicted
    return passes
