"""Bad tensors, for every metric, method, mask rule and loss."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor, nn

from sibx.attribution import MASKS, METHODS, build_method, explain
from sibx.attribution.fitting import why_not
from sibx.evaluation import heatmaps_of
from sibx.images.normalization import IMAGENET
from sibx.metrics import METRICS, Explained
from sibx.models import TinyCNN
from sibx.objectives import GroupDROConfig, GroupDROLoss, GuidanceLoss, SIBConfig, SIBLoss
from sibx.train import TRAININGS
from tests.helpers.bad_input import Case
from tests.helpers.methods import quick_spec

SIDE, ROWS, CLASSES = 16, 3, 5
BROKEN = 2  # rows that are broken where not all are; the last one has to come out as it was


def network() -> nn.Module:
    """A small network that takes images of any size, the same one every time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        feature_maps = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        return nn.Sequential(*feature_maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)).eval()


MODEL = network()
LEARNER = TinyCNN(CLASSES, width=4, norm="group")
IMAGES = torch.randn(ROWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
MAPS = torch.rand(ROWS, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
TARGETS = torch.arange(ROWS)
MASK = torch.zeros(ROWS, 1, SIDE, SIDE, dtype=torch.bool)
MASK[..., 4:9, 3:10] = True


def some_broken(good: Tensor) -> Tensor:
    """Return rows of which the first has a NaN and the second is infinite."""
    bad = good.clone()
    bad[0, 0, 3, 3], bad[1] = torch.nan, torch.inf
    return bad


# What may be wrong with images, heatmaps and feature maps (B, C, H, W).
SHAPED: dict[str, Callable[[Tensor], object]] = {
    "nothing (None)": lambda _: None,
    "a list": lambda good: good[0, 0, 0].tolist(),
    "a NumPy array": lambda good: good.numpy(),
    "of shape (C, H, W)": lambda good: good[0],
    "without a pixel": lambda good: good[..., :0],
    "without a channel": lambda good: good[:, :0],
    "whole numbers": lambda good: (9 * good).long(),
    "bools": lambda good: good > 0.5,
    "complex numbers": lambda good: good + 0j,
    "on the device meta": lambda good: good.to("meta"),
    "two of three not finite": some_broken,
}
MISFIT: dict[str, Callable[[Tensor], object]] = {  # that do not fit the other tensors
    "of another size": lambda good: good[..., :11],
    "fewer than the others": lambda good: good[:1],
}
CHOSEN: dict[str, Callable[[Tensor], object]] = {  # class indices (B,)
    "nothing (None)": lambda _: None,
    "fewer than the images": lambda good: good[:2],
    "of shape (B, 1)": lambda good: good.view(-1, 1),
    "fractions": lambda good: good.float(),
    "bools": lambda good: good > 0,
    "beyond the model's classes": lambda good: good + 7,
    "below 0": lambda good: good - 1,
    "on the device meta": lambda good: good.to("meta"),
}
OBJECTS: dict[str, Callable[[Tensor], object]] = {  # masks
    "nothing (None)": lambda _: None,
    "numbers": lambda good: good.float(),
    "of shape (B, H, W)": lambda good: good[:, 0],
    "of another size": lambda good: good[..., :11],
    "fewer than the images": lambda good: good[:1],
    "on the device meta": lambda good: good.to("meta"),
    "empty": torch.zeros_like,
    "full": torch.ones_like,
    "inverted": lambda good: ~good,
}


def tensor_cases() -> Iterator[Case]:
    """Yield the cases of all metrics, methods, mask rules and losses."""
    yield from _metric_cases()
    yield from _method_cases()
    for given, change in SHAPED.items():
        yield _rule_case(given, change(IMAGES), given.startswith("two of three"))
    yield _rule_case("zero everywhere", 0 * IMAGES)
    yield _rule_case("an empty batch", IMAGES[:0])
    yield _rule_case("of 1 x 1 pixels", IMAGES[..., :1, :1])
    yield from _loss_cases()


def explain_with(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Saliency maps of a model, as metrics that explain again are handed them."""
    return partial(heatmaps_of, METHODS["saliency"], build_method("saliency", model))


EXPLAINED = Explained(
    heatmaps=MAPS,
    masks=MASK,
    undefined=torch.zeros_like(MASK),
    images=IMAGES,
    targets=TARGETS,
    model=MODEL,
    normalization=IMAGENET,
    baseline=torch.zeros_like,
    explain=explain_with(MODEL),
    explain_with=explain_with,
)
FAMILIES = {  # what metrics look at, by the fields that say so
    "metrics that need masks": [s.name for s in METRICS.values() if s.needs_masks],
    "metrics that run the model": [s.name for s in METRICS.values() if s.needs_model],
    "metrics of the map alone": [s.name for s in METRICS.values() if not (s.needs_masks or s.needs_model)],
}
RUN, MASKED = "metrics that run the model", "metrics that need masks"
ASKING = {"images": [RUN], "targets": [RUN], "model": [RUN], "masks": [MASKED], "undefined": [MASKED]}  # who looks


def _metric_cases() -> Iterator[Case]:
    changes: list[tuple[str, str, dict[str, object]]] = []
    for field, good, kinds in (
        ("heatmaps", MAPS, SHAPED | MISFIT),
        ("images", IMAGES, SHAPED | MISFIT),
        ("targets", TARGETS, CHOSEN),
        ("masks", MASK, OBJECTS),
    ):
        changes += [(field, given, {field: change(good)}) for given, change in kinds.items()]
    whole = {"heatmaps": MAPS, "masks": MASK, "undefined": MASK & False, "images": IMAGES}
    changes += [
        ("heatmaps", "below 0", {"heatmaps": -MAPS}),
        ("heatmaps", "zero everywhere", {"heatmaps": 0 * MAPS}),
        ("heatmaps", "near the largest float64", {"heatmaps": MAPS.double() * 1e308}),
        ("heatmaps", "of 16 bits", {"heatmaps": MAPS.half()}),
        ("undefined", "all pixels", {"undefined": MASK | True}),
        ("images", "of one channel", {"images": IMAGES[:, :1]}),
        ("model", "whose scores are NaN", {"model": _SaysNothing()}),
        ("all", "an empty batch", {n: v[:0] for n, v in whole.items()} | {"targets": TARGETS[:0]}),
        ("all", "of 1 x 1 pixels", {n: v[..., :1, :1] for n, v in whole.items()}),
        ("all", "of 4 x 4 pixels", {n: v[..., 3:7, 2:6] for n, v in whole.items()}),
        ("all", "of 1 x 16 pixels", {n: v[..., 5:6, :] for n, v in whole.items()}),
    ]
    for argument, given, changed in changes:
        partly = given.startswith("two of three")
        for family in ASKING.get(argument, FAMILIES):
            calls = {name: partial(_score, name, changed, partly) for name in FAMILIES[family]}
            yield Case(family, argument, given, calls)


class _SaysNothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) * torch.nan


@cache
def _good_score(name: str) -> Tensor:
    return METRICS[name].score(replace(EXPLAINED))


def _score(name: str, changed: dict[str, object], partly: bool) -> str:
    return _say(METRICS[name].score(replace(EXPLAINED, **changed)), _good_score(name), partly)


def _say(found: Tensor, good: Tensor, partly: bool) -> str:
    """Say what came; of rows some of which are broken, the others have to be as before."""
    if not len(found):
        return "handled: nothing of nothing"
    if partly:
        assert torch.allclose(found[BROKEN:], good[BROKEN:], equal_nan=True), "another row is harmed"
        found, good = found[:BROKEN], good[:BROKEN]
    undefined = ~found.isfinite().flatten(1).all(1) if found.ndim > 1 else found.isnan()
    if undefined.all():
        return "NaN in the broken rows, the others as before" if partly else "NaN"
    if found.shape == good.shape and torch.allclose(found, good, equal_nan=True):
        return "handled: as before"
    return "NaN in some" if undefined.any() else "handled: a finite answer"


def _method_cases() -> Iterator[Case]:
    for given, change in SHAPED.items():
        yield _method_case("images", given, change(IMAGES), TARGETS, given.startswith("two of three"))
    for given, image in {
        "of one channel": IMAGES[:, :1],
        "of another dtype than the model": IMAGES.double(),
        "an empty batch": IMAGES[:0],
        "of 1 x 1 pixels": IMAGES[..., :1, :1],
    }.items():
        yield _method_case("images", given, image, TARGETS[: len(image)])
    for given, change in CHOSEN.items():
        if given != "nothing (None)":  # the predicted class
            yield _method_case("target", given, IMAGES, change(TARGETS))
    yield _method_case("target", "a word", IMAGES, "cat")


def _method_case(argument: str, given: str, images: object, target: object, partly: bool = False) -> Case:
    return Case("methods", argument, given, {n: partial(_map, n, images, target, partly) for n in fitting()})


@cache
def fitting() -> list[str]:
    """Return the methods that the network has what it takes for: attention, for one, it has not."""
    reasons = why_not(list(METHODS.values()), MODEL, IMAGES[:1], None, "auto")
    return [name for name in METHODS if name not in reasons]


@cache
def _good_map(name: str) -> Tensor:
    return explain(MODEL, IMAGES, quick_spec(name), TARGETS)


def _map(name: str, images: object, target: object, partly: bool) -> str:
    return _say(explain(MODEL, images, quick_spec(name), target), _good_map(name), partly)


def _rule_case(given: str, values: object, partly: bool = False) -> Case:
    return Case("mask rules", "vjp_map", given, {n: partial(_mask, n, values, partly) for n in MASKS})


def _mask(name: str, values: object, partly: bool) -> str:
    return _say(MASKS[name](values), MASKS[name](IMAGES), partly)


def _loss_cases() -> Iterator[Case]:
    whole = {"images": IMAGES, "labels": TARGETS, "masks": MASK}
    changes = [("images", given, {"images": change(IMAGES)}) for given, change in (SHAPED | MISFIT).items()]
    changes += [("labels", given, {"labels": change(TARGETS)}) for given, change in CHOSEN.items()]
    changes += [("masks", given, {"masks": change(MASK)}) for given, change in OBJECTS.items()]
    changes += [
        ("images", "of one channel", {"images": IMAGES[:, :1]}),
        ("images", "of another dtype than the model", {"images": IMAGES.double()}),
        ("labels", "all of one class", {"labels": 0 * TARGETS}),
        ("all", "an empty batch", {n: v[:0] for n, v in whole.items()}),
        ("all", "of 1 x 1 pixels", {n: v[..., :1, :1] if v.ndim > 1 else v for n, v in whole.items()}),
    ]
    names = [s.name for s in TRAININGS.values() if s.objective is not None and not s.name.endswith("-shuffled")]
    for argument, given, changed in changes:
        yield Case("losses", argument, given, {n: partial(_loss, n, **{**whole, **changed}) for n in names})


def _loss(name: str, images: object, labels: object, masks: object) -> str:
    objective = TRAININGS[name].objective
    if isinstance(objective, GroupDROConfig):  # which asks for groups, not for masks
        masks = TARGETS[: 0 if images is None else len(images)] % 2
        loss = GroupDROLoss(objective, torch.tensor([2, 1]))
    else:
        loss = SIBLoss(objective) if isinstance(objective, SIBConfig) else GuidanceLoss(objective)
    total = loss(LEARNER, images, labels, masks).total
    return "NaN, which ends a training" if total.isnan() else "handled: a finite answer"
